"""Adapters: the authors' modules as our graphs, held by what their own code answered."""

from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from aopsam_ros.bundle.loading import load_bundle  # noqa: E402
from aopsam_ros.cli import main  # noqa: E402
from aopsam_ros.models.adapters.table import ARCHITECTURES  # noqa: E402
from aopsam_ros.models.mobile_sam import MobileSam, PointDecoder, Sam  # noqa: E402
from aopsam_ros.models.mobile_sam.mask_decoder import MASKS  # noqa: E402
from aopsam_ros.segmentation.segmenter import Segmenter  # noqa: E402
from aopsam_ros.weights.known import KNOWN  # noqa: E402
from support import mobile_sam_cases as cases  # noqa: E402
from support.sam2 import cases as sam2  # noqa: E402
from support.sam2.modules import MaskDecoder, PromptEncoder  # noqa: E402

CLOSE = {"rtol": 1e-4, "atol": 1e-4}


@torch.no_grad()
@pytest.mark.parametrize("has_mask", [0.0, 1.0])
def test_sams_decoder_gives_four_masks_and_takes_one_to_start_from(has_mask):
    """Against the stored answers of the authors' prompt encoder and mask decoder."""
    model = cases.load_random_weights(MobileSam())
    decoder = PointDecoder(model).eval()
    coords, labels, _ = cases.PROMPTS["one_point"]
    mask = cases.tensor("mask", (3, 1, 256, 256), -10.0, 10.0)
    found = decoder(cases.embedding(), coords, labels, mask, torch.full((3,), has_mask))
    name = "masked" if has_mask else "one_point"
    with np.load(cases.REFERENCE) as stored:
        for part, answer in zip(("logits", "iou"), found, strict=True):
            expected = stored[f"{name}_{part}"]
            np.testing.assert_allclose(cases.sampled(f"{name}_{part}", answer), expected, **CLOSE)


class SmallEncoder(torch.nn.Module):
    """In place of the authors' encoder: its signature, for small images."""

    img_size = 64

    def __init__(self):
        super().__init__()
        self.patches = torch.nn.Conv2d(3, 256, 16, 16)

    def forward(self, image):
        return self.patches(image)


def test_a_bundle_says_its_architecture_and_the_licence_of_its_weights(tmp_path, monkeypatch):
    from aopsam_ros.models.adapters import edge_sam

    monkeypatch.setattr(edge_sam, "IMAGE_SIZE", SmallEncoder.img_size)
    networks = SimpleNamespace(RepViT=lambda *_, **__: SmallEncoder())
    monkeypatch.setattr(edge_sam, "import_part", lambda *_: networks)
    model = Sam(SmallEncoder(), SmallEncoder.img_size)
    state = {**model.state_dict(), "rpn_head.conv.weight": torch.zeros(1)}  # left out
    torch.save(state, tmp_path / "edge.pth")
    command = ["export", "--architecture", "edge_sam", "--checkpoint", str(tmp_path / "edge.pth")]
    out = tmp_path / "b"
    assert main([*command, "--source", str(tmp_path), "--out", str(out)]) == 0
    bundle = load_bundle(out)
    assert bundle.licence == "S-Lab-1.0 (non-commercial)"
    assert bundle.provenance["architecture"] == "edge_sam"
    assert bundle.provenance["checkpoint"]["origin"] == "not the published file"
    assert set(bundle.split_graphs) == {"decoder_frame", "decoder_prompts", "decoder_masks"}
    with Segmenter.from_bundle(out, "grid2", "onnxruntime") as segmenter:
        assert segmenter.engine.num_masks == MASKS and segmenter.engine.accepts_mask_input


@pytest.fixture
def checkpoint(tmp_path):
    torch.save({"x": torch.zeros(1)}, tmp_path / "x.pt")
    return str(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["edgetam"], "edgetam needs its authors' code: --source, a checkout of github.com/"),
        (["edgetam", "--source", "."], "holds no folder sam2; it must be a checkout of"),
        (["mobile_sam", "--source", "."], "--source goes with --architecture"),
    ],
)
def test_a_missing_checkout_is_named(checkpoint, tmp_path, capsys, monkeypatch, words, reason):
    monkeypatch.chdir(tmp_path)
    command = ["export", "--checkpoint", checkpoint, "--out", "b", "--architecture", *words]
    assert main(command) == 2
    assert reason in capsys.readouterr().err and not (tmp_path / "b").exists()


def test_a_missing_package_is_named(checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    command = ["export", "--checkpoint", checkpoint, "--out", str(tmp_path / "b")]
    assert main([*command, "--architecture", "sam_vit_b"]) == 2
    assert "pip install segment-anything" in capsys.readouterr().err


def test_published_weights_have_an_architecture_and_its_licence():
    others = {name: weights for name, weights in KNOWN.items() if name != "mobile_sam"}
    assert set(others) <= set(ARCHITECTURES)
    for name, weights in others.items():
        assert weights.licence == ARCHITECTURES[name].licence


@pytest.fixture
def sam2_decoder():
    from aopsam_ros.models.adapters.sam2_graphs import ImageDecoder

    model = sam2.with_random_weights(PromptEncoder(), MaskDecoder())
    return ImageDecoder(model).eval()


@torch.no_grad()
@pytest.mark.parametrize("name", sam2.PROMPTS)
def test_sam_2s_decoder_answers_as_its_authors(sam2_decoder, name):
    coords, labels, mask = sam2.PROMPTS[name]
    masks = () if mask is None else (mask, torch.ones(len(mask)))
    found = sam2_decoder(sam2.folded_embedding(), coords, labels, *masks)
    with np.load(sam2.REFERENCE) as stored:
        for part, answer in zip(("logits", "iou"), found, strict=True):
            expected = stored[f"{name}_{part}"]
            assert expected.std() > 0.02
            np.testing.assert_allclose(sam2.sampled(f"{name}_{part}", answer), expected, **CLOSE)


@torch.no_grad()
def test_sam_2s_prompts_mean_the_same_in_any_batch(sam2_decoder):
    coords, labels, _ = sam2.PROMPTS["points"]
    point, one, _ = sam2.PROMPTS["point"]
    alone = sam2_decoder(sam2.folded_embedding(), point, one)
    padding = torch.full((2, 2, 2), 7.0), -torch.ones(2, 2)
    padded = [torch.cat(pair, 1) for pair in zip((point, one), padding, strict=True)]
    both = [torch.cat(pair) for pair in zip((coords, labels), padded, strict=True)]
    batched = sam2_decoder(sam2.folded_embedding(), *both)
    for a, b in zip(batched, alone, strict=True):
        torch.testing.assert_close(a[2:], b, rtol=1e-5, atol=1e-5)
