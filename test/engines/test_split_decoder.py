"""The decoder in three parts: the whole one's masks, no work twice, none for masks nobody wants."""

import dataclasses

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from aopsam_ros.bundle.loading import load_bundle
from aopsam_ros.engines.base import EngineOptions, all_logits
from aopsam_ros.engines.onnxruntime import OnnxRuntimeEngine
from aopsam_ros.errors import BundleError, InferenceError
from aopsam_ros.segmentation.segmenter import Segmenter
from support.scenes import coloured_scene
from support.tiny_bundle import IMAGE, MAP, prompts, resized
from support.tiny_split import parts, write_split_bundle

FRAME, PROMPTS, MASKS = "decoder_frame", "decoder_prompts", "decoder_masks"


@pytest.fixture(scope="module", params=[False, True], ids=["of prompts", "of masks"])
def is_per_mask(request):
    """Whether masks have weights of their own, or share their prompt's."""
    return request.param


@pytest.fixture(scope="module")
def folder(is_per_mask, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles") / "split"
    return write_split_bundle(folder, is_per_mask=is_per_mask)


@pytest.fixture
def calls(engine, watched):
    """Every run of a part."""
    return watched(engine, "run_graph")


def of(calls, graph):
    """How many rows a part was given in each of its runs."""
    inputs = [given for _, name, given in calls if name == graph]
    return [len(given.get("point_coords", [*given.values()][-1])) for given in inputs]


@pytest.fixture
def opened(engine):
    return lambda folder: engine(load_bundle(folder), EngineOptions(threads=1, precision="fp32"))


@pytest.mark.parametrize(("count", "points"), [(1, 1), (5, 1), (17, 3)])
def test_it_gives_what_the_whole_decoder_gives(folder, opened, count, points):
    bundle = load_bundle(folder)
    split, whole = opened(folder), OnnxRuntimeEngine(dataclasses.replace(bundle, split_graphs={}))
    coords, labels = prompts(count, points)
    found, wanted = (r.decode(r.encode(IMAGE), coords, labels) for r in (split, whole))
    np.testing.assert_allclose(found.predicted_iou, wanted.predicted_iou, atol=1e-6)
    np.testing.assert_allclose(all_logits(found), all_logits(wanted), atol=1e-4)
    chosen = np.random.default_rng(0).integers([[count], [3]], size=(2, 40))
    np.testing.assert_allclose(found.logits(*chosen), wanted.logits(*chosen), atol=1e-4)


def test_what_prompts_share_is_made_once_a_frame(folder, opened, calls):
    loaded = opened(folder)
    first = loaded.encode(IMAGE)
    assert not calls  # none is made for a frame without prompts
    for _ in range(3):
        loaded.decode(first, *prompts(2))
    assert of(calls, FRAME) == [1]
    loaded.decode(loaded.encode(-IMAGE), *prompts(2))
    loaded.decode(first, *prompts(2))
    assert of(calls, FRAME) == [1, 1]


def test_only_masks_that_are_wanted_are_rendered(folder, is_per_mask, opened, calls):
    loaded = opened(folder)
    decoded = loaded.decode(loaded.encode(IMAGE), *prompts(9))
    assert sum(of(calls, PROMPTS)) == 9 and not of(calls, MASKS)
    none = np.zeros(0, np.int64)
    assert decoded.logits(none, none).shape == (0, MAP, MAP) and not of(calls, MASKS)
    decoded.logits(np.array([7, 2, 7, 2, 2]), np.array([0, 1, 2, 0, 1]))
    assert sum(of(calls, MASKS)) == (5 if is_per_mask else 2)


def test_a_frame_outlives_others(folder, opened):
    loaded = opened(folder)
    first, coords = loaded.encode(IMAGE), prompts(3)
    before = loaded.decode(first, *coords)
    loaded.decode(loaded.encode(-IMAGE), *coords)
    logits = all_logits(before)  # rendered only now
    np.testing.assert_array_equal(logits, all_logits(loaded.decode(first, *coords)))


def test_nothing_is_decoded_or_rendered_after_the_end(folder, opened):
    loaded = opened(folder)
    handle = loaded.encode(IMAGE)
    decoded = loaded.decode(handle, *prompts(2))
    loaded.close()
    for call in (lambda: loaded.decode(handle, *prompts(2)), lambda: all_logits(decoded)):
        with pytest.raises(InferenceError):
            call()


def test_no_prompt_is_refused(folder, opened):
    loaded = opened(folder)
    with pytest.raises(InferenceError, match="decoder_prompts needs a prompt"):
        loaded.decode(loaded.encode(IMAGE), *prompts(0))


def test_a_segmenter_renders_what_predicted_iou_lets_through(folder, opened, calls):
    rgb, objects = coloured_scene()
    with Segmenter(load_bundle(folder), opened(folder)) as segmenter:
        found = segmenter.segment(rgb)
        assert len(found.masks) >= len(objects) and of(calls, FRAME) == [1]
        rendered = sum(of(calls, MASKS))
        assert 0 < rendered <= found.prompts_decoded == sum(of(calls, PROMPTS))
        segmenter.options = segmenter.options.updated({"mask.predicted_iou_threshold": 1.0})
        assert not segmenter.segment(rgb).masks
        assert sum(of(calls, MASKS)) == rendered


def with_doubles(model):
    """Let the prompts' part give its weights in 64 bits."""
    kind = TensorProto.DOUBLE
    model.graph.node.append(onnx.helper.make_node("Cast", ["own"], ["code"], to=kind))
    model.graph.output.pop()
    code = onnx.helper.make_tensor_value_info("code", kind, ["N", 2, 1, 1])
    model.graph.output.append(code)
    return model


def renamed(model, old, new):
    """Give a value of a graph another name everywhere."""
    for node in model.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
    for value in [*model.graph.input, *model.graph.output]:
        value.name = new if value.name == old else value.name
    return model


@pytest.mark.parametrize(
    ("graph", "change", "reason"),
    [
        (FRAME, lambda m: resized(m, "embedding", [1, 4, MAP, MAP]), "input embedding has"),
        (FRAME, lambda m: renamed(m, "embedding", "x"), "inputs are x, but must be embedding"),
        (PROMPTS, lambda m: renamed(m, "colours", "x"), "inputs are .*x"),
        (PROMPTS, lambda m: resized(m, "colours", [1, 2, 8, MAP]), "input colours has shape"),
        (PROMPTS, lambda m: renamed(m, "point_coords", "x"), "inputs are .*x"),
        (PROMPTS, lambda m: renamed(m, "predicted_iou", "x"), "outputs are x, own, but must be"),
        (PROMPTS, with_doubles, r"output code is tensor\((double|f64)\)"),
        (PROMPTS, lambda m: renamed(m, "own", "x"), "masks.onnx: takes none of the mask"),
        (MASKS, lambda m: renamed(m, "colours", "x"), "inputs are .*x"),
        (MASKS, lambda m: resized(m, "own", ["N", 1, 1, 1]), "input own has shape"),
        (MASKS, lambda m: renamed(m, "low_res_logits", "x"), "outputs are x, but must be"),
        (MASKS, lambda _: renamed(parts(True)[MASKS], "codes", "own"), "own has .*must begin with"),
    ],
)
def test_parts_that_do_not_fit_are_refused(tmp_path, opened, graph, change, reason):
    folder = write_split_bundle(tmp_path / "b", {graph: change(parts()[graph])})
    with pytest.raises(BundleError, match=reason) as error:
        opened(folder)
    assert f"{graph}.onnx" in str(error.value) or "own" in reason or "none" in reason
    assert "\n" not in str(error.value)


def test_masks_of_another_size_are_refused(tmp_path, opened):
    with pytest.raises(BundleError, match=r"decoder_masks\.onnx: output low_res_logits has shape"):
        opened(write_split_bundle(tmp_path / "b", low_res_mask_size=128))


@pytest.mark.parametrize(
    ("graph", "change", "reason"),
    [
        (PROMPTS, lambda n, v: v * np.nan if n == "predicted_iou" else v, "iou .*not finite"),
        (MASKS, lambda n, v: v * np.nan if n == "low_res_logits" else v, "logits .*not finite"),
        (PROMPTS, lambda _, v: v[1:], "gave 1 results for 2 prompts"),
        (MASKS, lambda _, v: v[1:], r"has shape \[\d"),
    ],
)
def test_wrong_results_are_an_inference_error(
    folder, engine, opened, monkeypatch, graph, change, reason
):
    def run(self, name, inputs):
        found = real(self, name, inputs)
        return {n: change(n, v) for n, v in found.items()} if name == graph else found

    real = engine.run_graph
    monkeypatch.setattr(engine, "run_graph", run)
    loaded = opened(folder)
    with pytest.raises(InferenceError, match=reason):
        all_logits(loaded.decode(loaded.encode(IMAGE), *prompts(2)))
