"""ONNX Runtime and OpenVINO: graphs are checked at load, what they give is checked at each run."""

import dataclasses
import gc
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from aopsam_ros.bundle.loading import load_bundle
from aopsam_ros.engines.base import EngineOptions, all_logits
from aopsam_ros.engines.onnxruntime import OnnxRuntimeEngine
from aopsam_ros.engines.openvino.engine import OpenVinoEngine
from aopsam_ros.engines.openvino.graph import CompiledGraph
from aopsam_ros.engines.verification import answers, sample_inputs
from aopsam_ros.errors import AopsamError, BundleError, InferenceError
from support import tiny_bundle
from support.tiny_bundle import IMAGE, MAP, prompts, resized, with_last, write_tiny_bundle
from support.tiny_split import parts, write_split_bundle

OPTIONS = EngineOptions(threads=1, precision="fp32")


@pytest.fixture(scope="module")
def tiny(engine, bundle):
    return engine(bundle, OPTIONS)


def test_graphs_share_the_embedding(tiny):
    handle = tiny.encode(IMAGE)
    pooled = IMAGE.reshape(1, 3, MAP, 2, MAP, 2).mean((3, 5))[:, [1, 2, 0]]
    np.testing.assert_allclose(tiny.embedding(handle), pooled, atol=1e-5)
    confidence = tiny.predict(IMAGE, handle).confidence_map
    np.testing.assert_allclose(confidence, 1 / (1 + np.exp(-pooled[0, 2])), atol=1e-5)


@pytest.mark.parametrize(("count", "points"), [(5, 1), (1, 1), (17, 1), (3, 4)])
def test_any_number_of_prompts_and_points(tiny, count, points):
    handle, (coords, labels) = tiny.encode(IMAGE), prompts(count, points)
    decoded = tiny.decode(handle, coords, labels)
    logits = all_logits(decoded)
    assert logits.shape == (count, 3, MAP, MAP)
    assert decoded.predicted_iou.shape == (count, 3)
    alone = tiny.decode(handle, coords[-1:], labels[-1:])
    np.testing.assert_allclose(all_logits(alone)[0], logits[-1], atol=1e-4)


def test_two_frames_do_not_mix(tiny):
    first, second = tiny.encode(IMAGE), tiny.encode(-IMAGE)
    before = tiny.embedding(first).copy()
    np.testing.assert_allclose(before, -tiny.embedding(second), atol=1e-6)
    for handle in (first, second):
        tiny.embedding(handle)[:] = 0.0  # the caller's own copy
    np.testing.assert_array_equal(tiny.embedding(first), before)


def test_results_outlive_later_calls_and_the_engine(engine, bundle):
    loaded, (coords, labels) = engine(bundle, OPTIONS), prompts(4)
    handle = loaded.encode(IMAGE)
    logits = all_logits(loaded.decode(handle, coords, labels))
    iou = loaded.decode(handle, coords, labels).predicted_iou
    before = logits.copy(), iou.copy()
    loaded.decode(handle, coords[::-1], 2 * labels)
    loaded.close()
    del loaded, handle
    gc.collect()
    for array, wanted in zip((logits, iou), before, strict=True):
        np.testing.assert_array_equal(array, wanted)


def test_inputs_of_any_layout(tiny):
    read_only = IMAGE.copy()
    read_only.flags.writeable = False
    handle = tiny.encode(read_only)
    expected = tiny.decode(handle, np.full((4, 1, 2), 9, np.float32), np.ones((4, 1), np.float32))
    strided = np.ones((4, 1, 4), np.float64)[:, :, ::2] * 9
    found = tiny.decode(handle, strided, np.ones((4, 1), np.int64))
    np.testing.assert_array_equal(all_logits(found), all_logits(expected))


def test_shapes_are_checked(tiny):
    handle = tiny.encode(IMAGE)
    for use in (tiny.encode, lambda image: tiny.predict(image, handle)):
        with pytest.raises(InferenceError, match=r"takes images of .*, not \[1, 3, 8, 8\]"):
            use(np.zeros((1, 3, 8, 8), np.float32))
    with pytest.raises(InferenceError, match="mask_decoder failed in O"):
        tiny.decode(handle, np.zeros((2, 2), np.float32), np.ones((2, 2)))
    with pytest.raises(InferenceError, match=r"\(2, 1, 2\) coordinates do not fit to \(3, 1\)"):
        tiny.decode(handle, np.zeros((2, 1, 2)), np.ones((3, 1)))
    wrong = dataclasses.replace(handle, maps={"embedding": np.zeros((1, 3, 4, 4))})
    with pytest.raises(InferenceError, match="mask_decoder failed in O"):
        tiny.decode(wrong, *prompts(2))


def test_a_closed_engine_says_so(engine, bundle):
    loaded = engine(bundle, OPTIONS)
    handle = loaded.encode(IMAGE)
    loaded.close()
    loaded.close()
    for call in (lambda: loaded.encode(IMAGE), lambda: loaded.predict(IMAGE, handle)):
        with pytest.raises(InferenceError, match=r"encoder|predictor"):
            call()


FIXED_COUNT = resized(tiny_bundle.mask_decoder(), "point_coords", [1, "K", 2])
FIVE_MASKS = tiny_bundle.mask_decoder((1.0,) * 5, (0.5,) * 5)
SWAPPED = {"encoder": tiny_bundle.mask_decoder(), "mask_decoder": tiny_bundle.encoder()}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image_size": 64, "embedding_shape": [1, 3, 64, 64]}, "encoder.onnx: input image"),
        ({"embedding_shape": [1, 4, MAP, MAP]}, "encoder.onnx: output embedding"),
        ({"confidence_map_size": 32}, "prompt_predictor.onnx: output confidence_map"),
        ({"low_res_mask_size": 128}, "mask_decoder.onnx: output low_res_logits"),
        ({"models": SWAPPED}, "encoder.onnx: inputs are embedding, point_coords"),
        ({"models": {"mask_decoder": FIXED_COUNT}}, "input point_coords has shape"),
        ({"models": {"mask_decoder": FIVE_MASKS}}, "output low_res_logits has shape"),
    ],
)
def test_graphs_that_differ_from_what_bundle_yaml_says_are_refused(
    tmp_path, engine, change, reason
):
    with pytest.raises(BundleError, match=reason):
        engine(load_bundle(write_tiny_bundle(tmp_path / "b", **change)), OPTIONS)


def write_with(graph, folder):
    """Write a bundle of which the engines take a graph: a decoder's part, or a whole."""
    return write_split_bundle(folder) if graph in parts() else write_tiny_bundle(folder)


@pytest.mark.parametrize("graph", [*tiny_bundle.GRAPHS, *parts()])
def test_an_altered_graph_is_refused(tmp_path, engine, graph):
    folder = write_with(graph, tmp_path / "b")
    with (folder / f"{graph}.onnx").open("ab") as file:
        file.write(b"\n")
    with pytest.raises(BundleError, match=rf"{folder}/{graph}\.onnx: sha256 is"):
        engine(load_bundle(folder), OPTIONS)


def test_what_is_not_onnx_is_refused_in_one_line(tmp_path, engine):
    other = SimpleNamespace(SerializeToString=lambda: b"not a graph")
    bundle = load_bundle(write_tiny_bundle(tmp_path / "b", {"mask_decoder": other}))
    with pytest.raises(
        AopsamError, match=r"^.*mask_decoder\.onnx: O.* cannot load it: .*$"
    ) as error:
        engine(bundle, OPTIONS)
    assert "\n" not in str(error.value) and "Exception from" not in str(error.value)


def test_another_element_type_is_refused(tmp_path, engine):
    decoder = tiny_bundle.mask_decoder()
    decoder.graph.input[2].type.tensor_type.elem_type = TensorProto.DOUBLE
    nodes = list(decoder.graph.node)
    place = [node.op_type for node in nodes].index("ReduceMax")
    nodes[place].output[:] = ["label64"]  # what takes it makes it of use
    nodes.insert(place + 1, helper.make_node("Cast", ["label64"], ["label"], to=TensorProto.FLOAT))
    del decoder.graph.node[:]
    decoder.graph.node.extend(nodes)
    bundle = load_bundle(write_tiny_bundle(tmp_path / "b", {"mask_decoder": decoder}))
    reason = r"mask_decoder\.onnx: input point_labels is tensor\((double|f64)\)"
    with pytest.raises(BundleError, match=reason):
        engine(bundle, OPTIONS)


@pytest.mark.parametrize(
    ("graph", "output"),
    [
        ("encoder", "embedding"),
        ("prompt_predictor", "confidence_map"),
        ("mask_decoder", "low_res_logits"),
        ("mask_decoder", "predicted_iou"),
    ],
)
def test_output_that_is_not_finite_is_an_inference_error(tmp_path, engine, graph, output):
    model = with_last(getattr(tiny_bundle, graph)(), output, "Div", {"nothing": np.float32(0)})
    bundle = load_bundle(write_tiny_bundle(tmp_path / "b", {graph: model}))
    loaded = engine(bundle, OPTIONS)
    with pytest.raises(InferenceError, match=f"{output} holds values that are not finite"):
        answers(loaded, sample_inputs(bundle))


FAILURES = {  # what runs a graph, and how it fails
    OnnxRuntimeEngine: (onnxruntime.InferenceSession, "out of memory\nat line 3"),
    OpenVinoEngine: (CompiledGraph, "Exception from somewhere:\nout of memory"),
}


@pytest.mark.parametrize("graph", [*tiny_bundle.GRAPHS, *parts()])
def test_a_graph_that_fails_is_an_inference_error_in_one_line(tmp_path, engine, monkeypatch, graph):
    folder = write_with(graph, tmp_path / "b")
    outputs = {value.name for value in onnx.load(str(folder / f"{graph}.onnx")).graph.output}
    library, message = FAILURES[engine]
    real = library.run

    def run(self, *given):
        found = real(self, *given)
        names = given[0] if engine is OnnxRuntimeEngine else found
        if outputs <= set(names):
            raise RuntimeError(message)
        return found

    monkeypatch.setattr(library, "run", run)
    bundle = load_bundle(folder)
    loaded = engine(bundle, OPTIONS)
    with pytest.raises(InferenceError, match=rf"^{graph} failed in O.*: out of memory$"):
        answers(loaded, sample_inputs(bundle))
