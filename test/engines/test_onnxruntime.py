"""The ONNX Runtime engine: signatures checked at load, outputs checked at each run."""

import numpy as np
import onnx
import pytest
from onnx import helper

from aopsam_ros.bundle.loading import load_bundle
from aopsam_ros.bundle.signatures import check_output
from aopsam_ros.engines.base import EngineOptions, all_logits
from aopsam_ros.engines.onnxruntime import OnnxRuntimeEngine
from aopsam_ros.errors import BundleError, InferenceError
from aopsam_ros.segmentation.segmenter import Segmenter
from support import tiny_bundle
from support.tiny_bundle import MAP, SIZE, write_tiny_bundle

IMAGE = np.random.default_rng(0).normal(size=(1, 3, SIZE, SIZE)).astype(np.float32)


@pytest.fixture(scope="module")
def runtime(tiny_folder):
    return OnnxRuntimeEngine(load_bundle(tiny_folder), EngineOptions(threads=1))


def test_graphs_share_the_embedding(runtime):
    handle = runtime.encode(IMAGE)
    embedding = runtime.embedding(handle)
    pooled = IMAGE.reshape(1, 3, MAP, 2, MAP, 2).mean((3, 5))[:, [1, 2, 0]]
    np.testing.assert_allclose(embedding, pooled, atol=1e-5)
    confidence = runtime.predict(IMAGE, handle)
    np.testing.assert_allclose(confidence, 1 / (1 + np.exp(-pooled[0, 2])), atol=1e-5)


@pytest.mark.parametrize(("prompts", "points"), [(1, 1), (5, 1), (17, 1), (3, 4)])
def test_any_number_of_prompts_and_points(runtime, prompts, points):
    handle = runtime.encode(IMAGE)
    coords = np.random.default_rng(1).random((prompts, points, 2)).astype(np.float32) * SIZE
    decoded = runtime.decode(handle, coords, np.ones((prompts, points), np.float32))
    logits = all_logits(decoded)
    assert logits.shape == (prompts, 3, MAP, MAP)
    assert decoded.predicted_iou.shape == (prompts, 3)
    # One by one gives the same as together.
    alone = runtime.decode(handle, coords[-1:], np.ones((1, points), np.float32))
    np.testing.assert_allclose(all_logits(alone)[0], logits[-1], atol=1e-5)


def test_two_frames_do_not_mix(runtime):
    first, second = runtime.encode(IMAGE), runtime.encode(-IMAGE)
    np.testing.assert_allclose(runtime.embedding(first), -runtime.embedding(second), atol=1e-6)


def test_inputs_of_any_layout(runtime):
    handle = runtime.encode(IMAGE)
    coords = np.ones((4, 1, 4), np.float64)[:, :, ::2] * 9
    expected = runtime.decode(
        handle, np.full((4, 1, 2), 9, np.float32), np.ones((4, 1), np.float32)
    )
    found = runtime.decode(handle, coords, np.ones((4, 1), np.int64))
    np.testing.assert_array_equal(all_logits(found), all_logits(expected))


def test_graph_failure_is_an_inference_error(runtime):
    with pytest.raises(InferenceError, match="encoder failed"):
        runtime.encode(np.zeros((1, 3, 8, 8), np.float32))
    with pytest.raises(InferenceError, match="mask_decoder failed"):
        runtime.decode(runtime.encode(IMAGE), np.zeros((2, 2), np.float32), np.ones((2, 1)))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image_size": 64, "embedding_shape": [1, 3, 64, 64]}, "encoder.onnx: input image"),
        ({"embedding_shape": [1, 4, MAP, MAP]}, "encoder.onnx: output embedding"),
        ({"confidence_map_size": 32}, "prompt_predictor.onnx: output confidence_map"),
        ({"low_res_mask_size": 128}, "mask_decoder.onnx: output low_res_logits"),
    ],
)
def test_sizes_that_differ_from_bundle_yaml_are_refused(tmp_path, change, reason):
    folder = write_tiny_bundle(tmp_path / "b", **change)
    with pytest.raises(BundleError, match=reason):
        OnnxRuntimeEngine(load_bundle(folder))


def test_swapped_graphs_are_refused(tmp_path):
    models = {"encoder": tiny_bundle.mask_decoder(), "mask_decoder": tiny_bundle.encoder()}
    folder = write_tiny_bundle(tmp_path / "b", models)
    with pytest.raises(BundleError, match=r"encoder\.onnx: inputs are embedding, point_coords"):
        OnnxRuntimeEngine(load_bundle(folder))


def test_fixed_number_of_prompts_is_refused(tmp_path):
    decoder = tiny_bundle.mask_decoder()
    decoder.graph.input[1].type.tensor_type.shape.dim[0].dim_value = 1
    folder = write_tiny_bundle(tmp_path / "b", {"mask_decoder": decoder})
    with pytest.raises(BundleError, match="input point_coords has shape"):
        OnnxRuntimeEngine(load_bundle(folder))


def test_wrong_element_type_is_refused(tmp_path):
    encoder = tiny_bundle.encoder()
    for value in (encoder.graph.input[0], encoder.graph.output[0]):
        value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    order = encoder.graph.initializer[0]
    order.CopyFrom(
        onnx.numpy_helper.from_array(
            onnx.numpy_helper.to_array(order).astype(np.float64), order.name
        )
    )
    folder = write_tiny_bundle(tmp_path / "b", {"encoder": encoder})
    with pytest.raises(BundleError, match=r"encoder\.onnx: (input image is|.*cannot load)"):
        OnnxRuntimeEngine(load_bundle(folder))


def test_what_is_not_onnx_is_refused(tmp_path):
    class NotOnnx:
        def SerializeToString(self):  # noqa: N802
            return b"not a graph"

    folder = write_tiny_bundle(tmp_path / "b", {"mask_decoder": NotOnnx()})
    with pytest.raises(BundleError, match=r"mask_decoder\.onnx: ONNX Runtime cannot load") as e:
        OnnxRuntimeEngine(load_bundle(folder))
    assert "\n" not in str(e.value)


def not_finite(model, output):
    """Divide a graph's output by zero."""
    zero = onnx.numpy_helper.from_array(np.float32(0.0), "zero_divisor")
    model.graph.initializer.append(zero)
    for node in model.graph.node:
        node.output[:] = ["finite" if name == output else name for name in node.output]
    model.graph.node.append(helper.make_node("Div", ["finite", "zero_divisor"], [output]))
    return model


@pytest.mark.parametrize(
    ("graph", "output"),
    [
        ("prompt_predictor", "confidence_map"),
        ("mask_decoder", "low_res_logits"),
        ("mask_decoder", "predicted_iou"),
    ],
)
def test_output_that_is_not_finite_is_an_inference_error(tmp_path, graph, output):
    model = not_finite(getattr(tiny_bundle, graph)(), output)
    folder = write_tiny_bundle(tmp_path / "b", {graph: model})
    rgb, _ = tiny_bundle.coloured_scene()
    segmenter = Segmenter.from_bundle(folder, engine="onnxruntime")
    with pytest.raises(InferenceError, match=f"{output} holds values that are not finite"):
        segmenter.segment(rgb)


def test_embedding_that_is_not_finite_is_an_inference_error(tmp_path):
    model = not_finite(tiny_bundle.encoder(), "embedding")
    runtime = OnnxRuntimeEngine(load_bundle(write_tiny_bundle(tmp_path / "b", {"encoder": model})))
    with pytest.raises(InferenceError, match="embedding holds values"):
        runtime.embedding(runtime.encode(IMAGE))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_bad_value_among_many_is_noticed(value):
    array = np.ones((4, 3, 16, 16), np.float32)
    check_output("x", array, (None, 3, 16, 16))
    array[2, 1, 5, 7] = value
    with pytest.raises(InferenceError, match="not finite"):
        check_output("x", array, (None, 3, 16, 16))


def test_large_finite_values_are_finite():
    check_output("x", np.full((100,), 3e38, np.float32), (100,))


def test_opposite_infinities_do_not_cancel():
    with pytest.raises(InferenceError):
        check_output("x", np.float32([np.inf, -np.inf]), (2,))


@pytest.mark.parametrize("shape", [(2, 3), (3,), (2, 2, 1), ()])
def test_output_of_another_shape_is_an_inference_error(shape):
    with pytest.raises(InferenceError, match=r"expected \[None, 2\]"):
        check_output("x", np.zeros(shape, np.float32), (None, 2))


def test_its_graphs_share_an_arena_which_is_given_back(tiny_folder, monkeypatch):
    calls = []
    module = "aopsam_ros.engines.onnxruntime"
    monkeypatch.setattr(f"{module}.share_arena", lambda _: calls.append("share"))
    monkeypatch.setattr(f"{module}.shrink_arena", lambda: calls.append("shrink"))
    OnnxRuntimeEngine(load_bundle(tiny_folder), EngineOptions(threads=1)).close()
    assert calls == ["share"] * 3 + ["shrink"]
