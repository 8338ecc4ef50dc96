"""What a user types, from a folder of labelled images to the figures of a model of one's own."""

import json
import re
import sys

import pytest
import yaml

from aopsam_ros.bundle.loading import load_bundle
from aopsam_ros.cli import main
from support.scenes import write_label_maps
from support.torchrun import torchrun

torch = pytest.importorskip("torch")
pytest.importorskip("skimage")

SMALL = ["--image-size", "96", "--canvas", "64", "--batch-size", "2", "--threads", "1"]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_label_maps(tmp_path_factory.mktemp("data") / "drawn", range(12))


@pytest.fixture(scope="module")
def trained(images, tmp_path_factory):
    """A segmenter, its predictor and the bundle, trained for seconds."""
    out = tmp_path_factory.mktemp("run")
    data = ["--data", f"{images}=2", "--held-out", "0.3", "--out"]
    assert main(["train-segmenter", *data, str(out / "seg"), "--views", "6", *SMALL]) == 0
    segmenter = ["--segmenter", str(out / "seg" / "segmenter.pt")]
    words = ["--minutes", "0.03", "--batch-size", "2", "--threads", "1"]
    assert main(["train-predictor", *segmenter, *data, str(out / "pred"), *words]) == 0
    predictor = ["--predictor", str(out / "pred" / "predictor.pt")]
    defaults = ["--defaults", "asf.filtering=inside", "mask.stability_threshold=0.1"]
    words = ["--out", str(out / "drawn"), *defaults, "grid.predicted_iou_threshold=0"]
    assert main(["export", *segmenter, *predictor, *words]) == 0
    return out


def log_of(folder):
    return [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]


def test_the_bundle_says_how_it_was_made(trained):
    bundle = load_bundle(trained / "drawn")
    assert (bundle.name, bundle.image_size, bundle.embedding_shape[2:]) == ("drawn", 96, (6, 6))
    assert bundle.options().asf.filtering == "inside"
    assert bundle.options("grid").mask.predicted_iou_threshold == 0
    made = yaml.safe_load((trained / "drawn" / "bundle.yaml").read_text())["provenance"]
    for part in (made["segmenter"], made["predictor"]):
        assert part["steps"] >= 1 and part["images"] == 2 * part["steps"] and part["seed"] == 0
        assert part["data"][0].startswith("drawn: ") and part["data"][0].endswith("weight 2")
        assert "torch" in part["machine"]
    assert str(trained) not in json.dumps(made)


def test_a_segmenters_losses_are_the_same_in_two_processes(images, tmp_path):
    """Also of corrective clicks and disturbed masks, which are drawn for each sample."""
    found = []
    for count in (1, 2):
        words = ["--data", str(images), "--out", str(tmp_path / str(count)), "--views", "12"]
        words += ["--precision", "fp32"]  # 16 bits round each process's part for itself
        code, said = torchrun(count, ["train-segmenter", *words, *SMALL, "--batch-size", "4"])
        assert code == 0, said
        shown = re.findall(r"\b(points|boxes|click|second|confidence|extents)=([0-9.]+)", said)
        found.append([float(value) for _, value in shown])
    assert len(found[0]) >= 18  # six losses of three steps
    assert found[1][:6] == pytest.approx(found[0][:6], abs=0.002)
    assert found[1][-6:] == pytest.approx(found[0][-6:], abs=0.002)


def test_onnx_is_missed_before_the_training_not_after_it(images, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    words = ["--segmenter", "none.pt", "--data", str(images), "--out", str(tmp_path)]
    assert main(["train-predictor", *words]) == 2
    assert "training needs PyTorch, onnx and scikit-image" in capsys.readouterr().err


def test_the_predictors_run_leaves_a_bundle_and_its_curve(trained):
    bundle = load_bundle(trained / "pred" / "bundle")
    assert (bundle.name, bundle.image_size) == ("nano", 96)
    assert "held_out_recall" in (trained / "pred" / "curve.csv").read_text()
    first, *_, last = log_of(trained / "pred")
    assert first["step"] == 0 and first["held_out_recall"] == 0 and last["loss"] > 0
    assert 0 <= last["held_out_recall"] <= 1 and last["held_out_prompts"] >= 0
    assert not (trained / "pred" / "embeddings").exists()  # its encoder is fast


def test_a_run_goes_on_where_it_stopped(trained, images, capfd):
    before = log_of(trained / "seg")[-1]
    words = ["--data", str(images), "--out", str(trained / "seg"), "--views", "10", *SMALL]
    assert main(["train-segmenter", *words]) == 0
    assert f"resumed at step {before['step']}," in capfd.readouterr().out
    after = log_of(trained / "seg")[-1]
    assert after["step"] > before["step"] and after["seconds"] > before["seconds"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--data", "nowhere"], "nowhere: no such data set"),
        (["--data", "DATA=0"], "a weight must be above 0"),
        (["--data", "DATA", "--held-out", "1"], "--held-out"),
        (["--data", "DATA", "--views", "0"], "views"),
        (["--data", "DATA", "--image-size", "100"], "image size"),
        (["--data", "DATA", "--batch-size", "0"], "batch"),
        (["--data", "DATA", "--seed", "-1"], "--seed must be 0 or more"),
        (["--data", "DATA", "--learning-rate", "0"], "learning rate"),
        (["--data", "DATA", "--pretrained", "missing.pth"], "missing.pth"),
    ],
)
def test_wrong_training_arguments_are_one_clear_line(images, tmp_path, refused, words, reason):
    words = [word.replace("DATA", str(images)) for word in words]
    assert reason in refused("train-segmenter", "--out", str(tmp_path / "run"), *words)


def test_a_folder_with_images_of_another_kind_says_which_are_read(tmp_path, refused):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    (tmp_path / "images" / "a.tif").touch()
    words = ["--data", str(tmp_path), "--out", str(tmp_path / "run")]
    assert "no image in images/ (.jpg, " in refused("train-segmenter", *words)


def test_a_damaged_checkpoint_is_one_clear_line(images, tmp_path, refused):
    (tmp_path / "checkpoint.pt").write_bytes(b"PK\x03\x04 not a checkpoint")
    words = ["--data", str(images), "--out", str(tmp_path), *SMALL]
    assert "checkpoint.pt: " in refused("train-segmenter", *words)
    assert (tmp_path / "checkpoint.pt").read_bytes() == b"PK\x03\x04 not a checkpoint"


@pytest.mark.parametrize(
    "changes",
    [
        {"model": 3},
        {"options": 5},
        {"optimizer": None},
        {"step": None},
        {"seconds": "long"},
        {"images": None},
        {"average": 3},
    ],
)
def test_a_checkpoint_of_other_content_is_one_clear_line(
    trained, images, tmp_path, refused, changes
):
    state = torch.load(trained / "seg" / "checkpoint.pt", weights_only=True)
    torch.save({**state, **changes}, tmp_path / "checkpoint.pt")
    words = ["--data", str(images), "--out", str(tmp_path), *SMALL]
    assert "checkpoint.pt: " in refused("train-segmenter", *words)


@pytest.mark.parametrize("changes", [{"model": 3}, {"options": 5}, {"options": {}}])
def test_no_bundle_is_made_of_a_checkpoint_of_other_content(trained, tmp_path, refused, changes):
    state = torch.load(trained / "seg" / "segmenter.pt", weights_only=True)
    torch.save({**state, **changes}, tmp_path / "x.pt")
    words = ["--out", str(tmp_path / "bundle"), "--segmenter"]
    assert "x.pt: " in refused("export", *words, str(tmp_path / "x.pt"))
    torch.save({"model": dict.fromkeys(state["model"], 3)}, tmp_path / "x.pt")
    more = [str(trained / "seg" / "segmenter.pt"), "--average", str(tmp_path / "x.pt")]
    assert "x.pt: weights of another model" in refused("export", *words, *more)
