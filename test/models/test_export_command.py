"""`aopsam export` for MobileSAM, from a checkpoint to masks, and what it refuses."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from aopsam_ros.bundle.loading import load_bundle  # noqa: E402
from aopsam_ros.images.files import write_rgb  # noqa: E402
from aopsam_ros.models.mobile_sam.model import MobileSam  # noqa: E402
from aopsam_ros.models.prompt_predictor import PromptPredictor  # noqa: E402
from aopsam_ros.weights.fetching import file_sha256  # noqa: E402
from aopsam_ros.weights.known import KNOWN  # noqa: E402
from support.random_weights import uniform  # noqa: E402
from support.tiny_bundle import write_tiny_bundle  # noqa: E402


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, model):
    path = tmp_path_factory.mktemp("checkpoint") / "random.pt"
    torch.save(model.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory, predictor):
    """The predictor's checkpoint, as a training leaves it."""
    path = tmp_path_factory.mktemp("predictor") / "predictor.pt"
    progress = {"options": {"batch_size": 2, "seed": 7}, "seconds": 90.0, "step": 5}
    torch.save({"model": predictor.state_dict(), **progress}, path)
    return path


@pytest.fixture
def aopsam(aopsam, monkeypatch, tmp_path):
    """Run the command in a folder and with a cache of the test's own, for small images."""
    monkeypatch.setattr("aopsam_ros.models.loading.MobileSam", lambda _: MobileSam(64))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return aopsam


@pytest.fixture
def segmented(aopsam, tmp_path):
    """Segment an image with a bundle; what is written of its masks."""

    def run(model, *more, height=64):
        rgb = uniform("image", (64, 64, 3), 0, 255).astype(np.uint8)
        write_rgb(tmp_path / "photo.png", np.ascontiguousarray(rgb[:height]))
        assert aopsam("segment", "photo.png", "--model", model, "--out", "out", *more).code == 0
        return json.loads((tmp_path / "out" / "photo.json").read_text())

    return run


def test_from_the_published_file_to_masks(aopsam, segmented, checkpoint, tmp_path, monkeypatch):
    content = checkpoint.read_bytes()
    published = dataclasses.replace(
        KNOWN["mobile_sam"],
        size=len(content),
        sha256="",  # as where only git's id is published
        git_blob=hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest(),
        url="http://127.0.0.1:9/",
    )
    monkeypatch.setitem(KNOWN, "mobile_sam", published)
    assert aopsam("models", "fetch", "mobile_sam", "--from", checkpoint).code == 0
    result = aopsam("export", "--checkpoint", "mobile_sam")
    assert result.code == 0
    assert "encoder: differs from torch by at most " in result.out
    assert "mask_decoder: differs from torch by at most " in result.out
    folder = tmp_path / "data" / "aopsam_ros" / "bundles" / "mobile_sam"
    assert result.out.splitlines()[-1] == str(folder) and "precision" not in result.out
    bundle = load_bundle("mobile_sam")
    assert bundle.folder == folder
    assert set(bundle.graphs) == {"encoder", "mask_decoder", "prompt_predictor"}
    assert not bundle.mixed_graphs
    assert bundle.prompter == f"nano {load_bundle('nano').version}"
    assert bundle.predictor_inputs == ("image",)
    assert bundle.options().mask.predicted_iou_threshold == 0.88
    assert bundle.options("grid").mask.stability_threshold == 0.95
    # Masks of nano's prompts are ranked by a score instead.
    own = bundle.options("predictor")
    assert own.asf.prompt_form == "both" and own.mask.predicted_iou_threshold == 0.0
    assert own.mask.score_threshold > 0 and bundle.score_weights is not None
    assert bundle.provenance["checkpoint"] == {
        "file": "mobile_sam.pt",
        "sha256": file_sha256(checkpoint),
        "origin": "as published by its authors",
    }
    # Random weights find nothing in boxes.
    accept = ["mask.score_threshold=0", "asf.prompt_form=point"]
    more = ["--threads", 1, "--set", *accept, "asf.confidence_threshold=0"]
    written = segmented("mobile_sam", *more, height=48)
    assert written["prompt_source"] == "predictor" and written["prompts_decoded"] > 0
    assert (written["width"], written["height"]) == (64, 48) and len(written["masks"]) > 0
    assert (tmp_path / "out" / "photo_overlay.png").exists()


def test_with_a_predictor_and_mixed_graphs(
    aopsam, segmented, checkpoint, trained, tmp_path, caplog
):
    words = ["--checkpoint", checkpoint, "--predictor", trained, "--mixed", "--name", "mine"]
    given = ["--defaults", "mask.predicted_iou_threshold=0", "asf.confidence_threshold=0"]
    result = aopsam("export", *words, *given, "--out", "b")
    assert result.code == 0
    for name in ("encoder", "prompt_predictor", "mask_decoder"):
        assert f"{name}: differs from torch by at most " in result.out
        assert f"{name} in mixed precision: cosine with 32 bits at least 0.99" in result.out
    made = yaml.safe_load((tmp_path / "b" / "bundle.yaml").read_text())
    assert made["name"] == "mine" and set(made["mixed_graphs"]) == set(made["graphs"])
    assert made["defaults"]["mask"] == {"predicted_iou_threshold": 0.0, "stability_threshold": 0.95}
    own = {"predicted_iou_threshold": 0.88, "stability_threshold": 0.95}
    assert made["defaults"]["grid"] == own
    assert made["provenance"]["checkpoint"]["origin"] == "not the published file"
    effort = {"minutes": 1.5, "steps": 5, "images": 10, "seed": 7}
    assert made["provenance"]["predictor"] == effort
    written = segmented("b", "--no-overlay")
    assert "no prompt predictor" not in caplog.text
    assert written["prompt_source"] == "predictor" and written["prompts_decoded"] > 0


def test_a_prompter_that_fails_late_leaves_nothing(refused, aopsam, checkpoint, tmp_path):
    damaged = write_tiny_bundle(tmp_path / "damaged")
    (damaged / "encoder.onnx").write_bytes(b"")
    words = ["--checkpoint", checkpoint, "--prompter", damaged, "--out", "b"]
    assert "encoder.onnx" in refused("export", *words)
    assert not (tmp_path / "b").exists()


def test_without_a_prompter_there_are_grids_boxes_and_clusters(
    aopsam, segmented, checkpoint, tmp_path, caplog
):
    words = ["--checkpoint", checkpoint, "--prompter", "none", "--out", "b"]
    assert aopsam("export", *words).code == 0
    assert set(load_bundle(tmp_path / "b").graphs) == {"encoder", "mask_decoder"}
    assert segmented("b", "--no-overlay")["prompt_source"] == "clusters"
    assert "no prompt predictor (`aopsam add-prompter` gives it one): prompts from" in caplog.text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("--checkpoint none.pt --out b", "none.pt: no such checkpoint"),
        ("--checkpoint . --out b", ".: not a file"),
        ("--checkpoint mobile_sam --out b", "run `aopsam models fetch mobile_sam`"),
        ("--checkpoint CHECKPOINT --predictor none.pt --out b", "none.pt: no such checkpoint"),
        ("--checkpoint CHECKPOINT --predictor CHECKPOINT --out b", "holds no model weights"),
        ("--checkpoint CHECKPOINT --predictor OTHER --out b", "p.pt: weights of another model"),
        ("--checkpoint CHECKPOINT --defaults mask.no=1 --out b", "mask.no"),
        ("--checkpoint CHECKPOINT --defaults other.x=1 --out b", "--defaults takes"),
        ("--checkpoint CHECKPOINT --out CHECKPOINT", "is a file; choose a folder"),
        ("--checkpoint CHECKPOINT --out full", "full: holds other files"),
        ("--checkpoint CHECKPOINT", "say where to: --out FOLDER"),
        ("--checkpoint CHECKPOINT --prompter no --out b", "model bundle 'no' not found"),
        ("--checkpoint CHECKPOINT --predictor OWN --prompter no --out b", "--prompter goes with"),
        ("--segmenter x.pt --out b", "x.pt: no such checkpoint"),
        ("--checkpoint CHECKPOINT --average x.pt --out b", "--average goes with --segmenter"),
    ],
)
def test_wrong_arguments_are_one_clear_line(aopsam, checkpoint, tmp_path, text, reason):
    torch.save({"model": PromptPredictor(384).state_dict()}, tmp_path / "p.pt")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    torch.save({"model": PromptPredictor(256).state_dict()}, tmp_path / "own.pt")
    named = {"CHECKPOINT": checkpoint, "OTHER": tmp_path / "p.pt", "OWN": tmp_path / "own.pt"}
    result = aopsam("export", *(named.get(word, word) for word in text.split()))
    assert result.code == 2 and result.out == ""
    assert result.err.count("\n") == 1 and reason in result.err
    assert not (tmp_path / "b").exists()
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.tex"]
