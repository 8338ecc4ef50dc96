"""The decoders in three parts, as torch modules and as graphs, against the whole ones."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from aopsam_ros.bundle.loading import load_bundle  # noqa: E402
from aopsam_ros.engines.base import EngineOptions, all_logits  # noqa: E402
from aopsam_ros.engines.onnxruntime import OnnxRuntimeEngine  # noqa: E402
from aopsam_ros.errors import BundleError  # noqa: E402
from aopsam_ros.models.export import (  # noqa: E402
    export_bundle,
    mobile_sam_parts,
    nano_parts,
)
from aopsam_ros.models.mobile_sam.model import MobileSam, PointDecoder  # noqa: E402
from aopsam_ros.models.mobile_sam.split import split_mobile_sam  # noqa: E402
from aopsam_ros.models.nano import NanoSegmenter  # noqa: E402
from aopsam_ros.models.nano_split import SinglePromptSet, split_nano  # noqa: E402
from support.authors.mobile_sam_cases import load_random_weights  # noqa: E402
from support.random_weights import uniform  # noqa: E402

SIZE = 64
FACTS = {"name": "n", "version": "1", "licence": "-", "defaults": {}, "provenance": {}}
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def points(count, each):
    """Points of every kind all over the image and beyond; the first prompt is a padded point."""
    shape = (count, each)
    coords = uniform(f"coords {shape}", (*shape, 2), -5.0, SIZE + 5.0)
    labels = np.floor(uniform(f"labels {shape}", shape, -1.0, 4.0))
    labels[0] = [1, -1, -1, -1][:each]
    return {"point_coords": torch.from_numpy(coords), "point_labels": torch.from_numpy(labels)}


def boxes():
    corners = torch.tensor([[[4.0, 5.0], [40.0, 50.0]], [[30.0, 2.0], [60.0, 9.0]]])
    return {"point_coords": corners, "point_labels": torch.tensor([[2.0, 3.0]] * 2)}


ASKED = [points(1, 1), points(3, 1), points(2, 4), boxes()]


@pytest.fixture(scope="module")
def nano():
    torch.manual_seed(0)
    return NanoSegmenter().eval()


@torch.no_grad()
def sharpened(model):
    """Let attention look at few things, and norms change what they see, as trained ones do."""
    for name, value in model.mask_decoder.named_parameters():
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            value.mul_(4.0)
        elif "norm4" in name:
            value.mul_(3.0)
    return model


def in_parts(split, embedding, sample):
    """Decode prompts and render all their masks."""
    frame = split.encode_frame(embedding)
    iou, weights = split.decode_prompts(frame, sample)
    logits = split.render_masks(frame, weights)
    return logits.reshape(*iou.shape, *logits.shape[-2:]), iou


@torch.no_grad()
@pytest.mark.parametrize("sample", ASKED)
def test_mobile_sam_in_parts_is_the_same_decoder(model, sample):
    """In 64 bits: what is left is rounding, so the arithmetic is the same."""
    copy = sharpened(load_random_weights(MobileSam(SIZE))).double()
    embedding = torch.from_numpy(uniform("e", (1, 256, 4, 4), -2.0, 2.0)).double()
    sample = {name: value.double() for name, value in sample.items()}
    expected = PointDecoder(copy).double()(embedding, *sample.values())
    split = split_mobile_sam(copy)
    for part in (split.frame, split.prompts, split.masks):
        part.double()
    found = in_parts(split, embedding, sample)
    for a, b in zip(found, expected, strict=True):
        assert b.std() > 0.05
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


@torch.no_grad()
@pytest.mark.parametrize("sample", ASKED)
def test_nano_in_parts_is_the_same_decoder(nano, sample):
    embedding = torch.from_numpy(uniform("e", (1, 384, 4, 4), -2.0, 2.0))
    expected = SinglePromptSet(nano.decoder)(embedding, *sample.values())
    found = in_parts(split_nano(nano.decoder), embedding, sample)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


@pytest.fixture(scope="module", params=["mobile_sam", "nano"])
def bundle(request, exported, nano, tmp_path_factory):
    """A bundle of either model, and its whole decoder in torch."""
    if request.param == "mobile_sam":
        model = request.getfixturevalue("model")
        return load_bundle(exported.folder), PointDecoder(model).eval()
    folder = tmp_path_factory.mktemp("nano") / "b"
    export_bundle(nano_parts(nano, None, SIZE), folder, FACTS)
    return load_bundle(folder), SinglePromptSet(nano.decoder)


@pytest.mark.parametrize("is_split", [True, False])
@pytest.mark.parametrize("sample", ASKED)
def test_the_runtime_equals_torch_in_parts_and_whole(bundle, sample, is_split):
    described, decoder = bundle
    described = described if is_split else replace(described, split_graphs={})
    runtime = OnnxRuntimeEngine(described, EngineOptions(threads=1))
    handle = runtime.encode(uniform("image", (1, 3, SIZE, SIZE), -2.0, 2.0))
    decoded = runtime.decode(handle, *(value.numpy() for value in sample.values()))
    with torch.no_grad():
        logits, iou = decoder(torch.from_numpy(runtime.embedding(handle)), *sample.values())
    np.testing.assert_allclose(decoded.predicted_iou, iou.numpy(), **CLOSE)
    np.testing.assert_allclose(all_logits(decoded), logits.numpy(), **CLOSE)


def test_parts_that_differ_from_the_whole_are_refused(nano, tmp_path):
    parts = nano_parts(nano, None, SIZE)
    torch.manual_seed(1)  # not the weights of `nano`
    other = NanoSegmenter().eval()
    with pytest.raises(BundleError, match=r"in three parts differs from the whole by .+ 0\.001$"):
        export_bundle(
            replace(parts, split=lambda: split_nano(other.decoder)), tmp_path / "b", FACTS
        )
    assert not (tmp_path / "b").exists()


def test_logits_as_large_as_a_trained_decoders_do_not_hinder_the_export(tmp_path):
    """Some of the trained weights of MobileSAM's architecture reach 480 on photographs."""
    large = load_random_weights(MobileSam(SIZE))
    with torch.no_grad():
        for name, value in large.mask_decoder.named_parameters():
            if "hypernetworks" in name and name.endswith(("layers.2.weight", "layers.2.bias")):
                value.mul_(3000.0)
    facts = {**FACTS, "name": "large"}
    report = export_bundle(mobile_sam_parts(large, None), tmp_path / "b", facts)
    assert set(report.differences) >= {"mask_decoder", "decoder_masks"}
    bundle = load_bundle(tmp_path / "b")
    runtime = OnnxRuntimeEngine(bundle, EngineOptions(threads=1))
    handle = runtime.encode(uniform("image", (1, 3, SIZE, SIZE), -2.0, 2.0))
    logits = all_logits(runtime.decode(handle, *(v.numpy() for v in ASKED[1].values())))
    assert np.abs(logits).max() > 100
