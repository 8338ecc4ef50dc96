"""The OpenVINO engine equals ONNX Runtime, and fails as it does."""

import dataclasses
import gc
import sys

import numpy as np
import pytest
from onnx import TensorProto, helper

from aopsam_ros.bundle.loading import load_bundle
from aopsam_ros.engines import registry
from aopsam_ros.engines.base import EngineOptions, all_logits
from aopsam_ros.engines.openvino import api
from aopsam_ros.engines.openvino import engine as openvino_engine
from aopsam_ros.engines.openvino.api import FP32, OpenVino
from aopsam_ros.engines.openvino.engine import OpenVinoEngine
from aopsam_ros.engines.registry import create_engine
from aopsam_ros.engines.verification import answers, sample_inputs
from aopsam_ros.errors import BundleError, EngineError, InferenceError
from aopsam_ros.masks.rle import decode_full
from aopsam_ros.segmentation.segmenter import Segmenter
from support import tiny_bundle
from support.openvino_cases import NAMES, assert_close, preprocessed
from support.tiny_bundle import MAP, SIZE, with_last, write_tiny_bundle

# Not importorskip: the package reports being imported over the network, if it is not hindered.
pytestmark = pytest.mark.needs("openvino")

IMAGE = np.random.default_rng(0).normal(size=(1, 3, SIZE, SIZE)).astype(np.float32)


@pytest.fixture(scope="module")
def tiny_runtime(runtimes):
    return runtimes("tiny")[0]


@pytest.mark.parametrize("name", NAMES)
def test_equals_onnx_runtime_on_the_samples(bundles, runtimes, name):
    samples = sample_inputs(bundles(name))
    found, wanted = (answers(runtime, samples) for runtime in runtimes(name))
    assert set(found) == set(wanted)
    for output, array in wanted.items():
        assert_close(found[output], array)


@pytest.mark.parametrize("name", ["nano", "mobile_sam"])
def test_photograph_is_segmented_as_by_onnx_runtime(bundles, runtimes, cat, name):
    bundle = bundles(name)
    image = preprocessed(cat, bundle)
    coords = np.random.default_rng(0).uniform(0, bundle.image_size, (17, 1, 2)).astype(np.float32)
    results = []
    for runtime in runtimes(name):
        handle = runtime.encode(image)
        decoded = runtime.decode(handle, coords, np.ones((17, 1), np.float32))
        confidence = runtime.predict(image, handle)
        results.append(
            (runtime.embedding(handle), confidence, all_logits(decoded), decoded.predicted_iou)
        )
    for found, wanted in zip(*results, strict=True):
        assert_close(found, wanted)


def test_masks_of_a_scene_are_the_same(bundle, openvino, tiny):
    rgb, objects = tiny_bundle.coloured_scene()
    with Segmenter(
        bundle, OpenVinoEngine(bundle, EngineOptions(threads=1, precision=FP32), openvino=openvino)
    ) as segmenter:
        assert segmenter.engine.name == "openvino"
        found, wanted = segmenter.segment(rgb), tiny.segment(rgb)
    assert len(found.masks) == len(wanted.masks) >= len(objects)
    for mask, reference in zip(found.masks, wanted.masks, strict=True):
        np.testing.assert_array_equal(
            decode_full(mask, *rgb.shape[:2]), decode_full(reference, *rgb.shape[:2])
        )


@pytest.mark.parametrize(("prompts", "points"), [(5, 1), (1, 1), (17, 1), (3, 4)])
def test_any_number_of_prompts_and_points(tiny_runtime, prompts, points):
    handle = tiny_runtime.encode(IMAGE)
    coords = np.random.default_rng(1).random((prompts, points, 2)).astype(np.float32) * SIZE
    decoded = tiny_runtime.decode(handle, coords, np.ones((prompts, points), np.float32))
    logits = all_logits(decoded)
    assert logits.shape == (prompts, 3, MAP, MAP)
    assert decoded.predicted_iou.shape == (prompts, 3)
    alone = tiny_runtime.decode(handle, coords[-1:], np.ones((1, points), np.float32))
    np.testing.assert_allclose(all_logits(alone)[0], logits[-1], atol=1e-4)


def test_two_frames_do_not_mix(tiny_runtime):
    first, second = tiny_runtime.encode(IMAGE), tiny_runtime.encode(-IMAGE)
    before = tiny_runtime.embedding(first).copy()
    np.testing.assert_allclose(before, -tiny_runtime.embedding(second), atol=1e-6)
    for handle in (first, second):
        tiny_runtime.embedding(handle)[:] = 0.0  # the caller's own copy
    np.testing.assert_array_equal(tiny_runtime.embedding(first), before)


def test_results_outlive_later_calls_and_the_engine(bundle, openvino):
    runtime = OpenVinoEngine(bundle, EngineOptions(threads=1, precision=FP32), openvino=openvino)
    coords = np.random.default_rng(1).random((4, 1, 2)).astype(np.float32) * SIZE
    labels = np.ones((4, 1), np.float32)
    handle = runtime.encode(IMAGE)
    logits = all_logits(runtime.decode(handle, coords, labels))
    iou = runtime.decode(handle, coords, labels).predicted_iou
    before = logits.copy(), iou.copy()
    runtime.decode(handle, coords[::-1], 2 * labels)
    runtime.close()
    del runtime, handle
    gc.collect()
    for array, wanted in zip((logits, iou), before, strict=True):
        np.testing.assert_array_equal(array, wanted)


def test_inputs_of_any_layout(tiny_runtime):
    read_only = IMAGE.copy()
    read_only.flags.writeable = False
    handle = tiny_runtime.encode(read_only)
    expected = tiny_runtime.decode(
        handle, np.full((4, 1, 2), 9, np.float32), np.ones((4, 1), np.float32)
    )
    strided = np.ones((4, 1, 4), np.float64)[:, :, ::2] * 9
    found = tiny_runtime.decode(handle, strided, np.ones((4, 1), np.int64))
    np.testing.assert_array_equal(all_logits(found), all_logits(expected))


def test_shapes_are_checked(tiny_runtime):
    with pytest.raises(InferenceError, match=r"encoder failed in OpenVINO: .*incompatible"):
        tiny_runtime.encode(np.zeros((1, 3, 8, 8), np.float32))
    handle = tiny_runtime.encode(IMAGE)
    with pytest.raises(InferenceError, match=r"prompt_predictor failed in .*incompatible"):
        tiny_runtime.predict(np.zeros((1, 3, 2 * SIZE, 2 * SIZE), np.float32), handle)
    with pytest.raises(InferenceError, match="mask_decoder failed in OpenVINO"):
        tiny_runtime.decode(handle, np.zeros((2, 2), np.float32), np.ones((2, 1)))
    with pytest.raises(InferenceError, match=r"\(2, 1, 2\) coordinates do not fit to \(3, 1\)"):
        tiny_runtime.decode(handle, np.zeros((2, 1, 2)), np.ones((3, 1)))
    wrong = dataclasses.replace(handle, embedding=np.zeros((1, 3, 4, 4)))
    with pytest.raises(InferenceError, match="mask_decoder failed in OpenVINO"):
        tiny_runtime.decode(wrong, np.zeros((2, 1, 2)), np.ones((2, 1)))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image_size": 64, "embedding_shape": [1, 3, 64, 64]}, "encoder.onnx: input image"),
        ({"embedding_shape": [1, 4, MAP, MAP]}, "encoder.onnx: output embedding"),
        ({"confidence_map_size": 32}, "prompt_predictor.onnx: output confidence_map"),
        ({"low_res_mask_size": 128}, "mask_decoder.onnx: output low_res_logits"),
    ],
)
def test_sizes_that_differ_from_bundle_yaml_are_refused(tmp_path, openvino, change, reason):
    bundle = load_bundle(write_tiny_bundle(tmp_path / "b", **change))
    with pytest.raises(BundleError, match=reason):
        OpenVinoEngine(bundle, openvino=openvino)


def test_swapped_graphs_are_refused(tmp_path, openvino):
    models = {"encoder": tiny_bundle.mask_decoder(), "mask_decoder": tiny_bundle.encoder()}
    bundle = load_bundle(write_tiny_bundle(tmp_path / "b", models))
    with pytest.raises(BundleError, match=r"encoder\.onnx: inputs are embedding, point_coords"):
        OpenVinoEngine(bundle, openvino=openvino)


def test_altered_graph_is_refused(tmp_path, openvino):
    folder = write_tiny_bundle(tmp_path / "b")
    with (folder / "encoder.onnx").open("ab") as file:
        file.write(b"\n")
    with pytest.raises(BundleError, match=r"encoder\.onnx: sha256 is"):
        OpenVinoEngine(load_bundle(folder), openvino=openvino)


def test_wrong_element_type_is_refused(tmp_path, openvino):
    decoder = tiny_bundle.mask_decoder()
    decoder.graph.input[2].type.tensor_type.elem_type = TensorProto.DOUBLE
    for node in decoder.graph.node:
        if node.op_type == "ReduceMax":  # what takes it makes it of use
            node.output[:] = ["label64"]
    folder = write_tiny_bundle(tmp_path / "b", {"mask_decoder": cast_label(decoder)})
    with pytest.raises(BundleError, match=r"mask_decoder\.onnx: input point_labels is tensor\(f64"):
        OpenVinoEngine(load_bundle(folder), openvino=openvino)


def cast_label(decoder):
    cast = helper.make_node("Cast", ["label64"], ["label"], to=TensorProto.FLOAT)
    nodes = list(decoder.graph.node)
    place = [node.op_type for node in nodes].index("ReduceMax") + 1
    del decoder.graph.node[:]
    decoder.graph.node.extend([*nodes[:place], cast, *nodes[place:]])
    return decoder


class NotOnnx:
    def SerializeToString(self):  # noqa: N802
        return b"not a graph"


def test_what_openvino_cannot_load_is_left_to_another_engine(tmp_path, openvino, caplog):
    unknown = with_last(tiny_bundle.encoder(), "embedding", "Unheard", {}, domain="elsewhere")
    for number, model in enumerate((NotOnnx(), unknown)):
        bundle = load_bundle(write_tiny_bundle(tmp_path / str(number), {"encoder": model}))
        with pytest.raises(EngineError, match=r"encoder\.onnx: OpenVINO cannot load it: ") as error:
            OpenVinoEngine(bundle, openvino=openvino)
        assert "\n" not in str(error.value) and "Exception from" not in str(error.value)
        with pytest.raises(BundleError, match="ONNX Runtime cannot load it"):
            create_engine(bundle)


@pytest.mark.parametrize(
    ("graph", "output"),
    [
        ("prompt_predictor", "confidence_map"),
        ("mask_decoder", "low_res_logits"),
        ("mask_decoder", "predicted_iou"),
    ],
)
def test_output_that_is_not_finite_is_an_inference_error(tmp_path, openvino, graph, output):
    model = with_last(getattr(tiny_bundle, graph)(), output, "Div", {"nothing": np.float32(0)})
    bundle = load_bundle(write_tiny_bundle(tmp_path / "b", {graph: model}))
    segmenter = Segmenter(
        bundle, OpenVinoEngine(bundle, EngineOptions(threads=1, precision=FP32), openvino=openvino)
    )
    with pytest.raises(InferenceError, match=f"{output} holds values that are not finite"):
        segmenter.segment(tiny_bundle.coloured_scene()[0])


def test_embedding_that_is_not_finite_is_an_inference_error(tmp_path, openvino):
    model = with_last(tiny_bundle.encoder(), "embedding", "Div", {"nothing": np.float32(0)})
    bundle = load_bundle(write_tiny_bundle(tmp_path / "b", {"encoder": model}))
    runtime = OpenVinoEngine(bundle, EngineOptions(threads=1, precision=FP32), openvino=openvino)
    with pytest.raises(InferenceError, match="embedding holds values"):
        runtime.embedding(runtime.encode(IMAGE))


def test_closed_runtime_says_so(bundle, openvino):
    runtime = OpenVinoEngine(bundle, EngineOptions(threads=1, precision=FP32), openvino=openvino)
    handle = runtime.encode(IMAGE)
    runtime.close()
    runtime.close()
    assert not runtime.has_predictor
    for call in (lambda: runtime.encode(IMAGE), lambda: runtime.predict(IMAGE, handle)):
        with pytest.raises(InferenceError, match="closed"):
            call()


def test_openvino_is_an_engine_by_name(bundle, caplog):
    caplog.set_level("INFO")
    runtime = create_engine(bundle, EngineOptions(engine="openvino", threads=1, precision="fp32"))
    assert (runtime.name, runtime.device, runtime.precision) == ("openvino", "cpu", "fp32")
    assert "engine openvino on cpu (as requested)" in caplog.text


@pytest.mark.parametrize("gains", [True, False])
def test_auto_takes_openvino_and_16_bits_where_the_processor_gains_by_them(
    bundle, with_bf16, monkeypatch, gains
):
    monkeypatch.setattr(registry.platform, "machine", lambda: "AMD64")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(with_bf16, "gains_by_bf16", gains)
    monkeypatch.setattr(openvino_engine, "OpenVino", lambda threads: with_bf16)
    runtime = create_engine(bundle, EngineOptions(threads=1))
    assert (runtime.name, runtime.precision) == ("openvino", "bf16" if gains else "fp32")


@pytest.mark.parametrize(
    ("flags", "gains"), [("avx512_bf16 amx_bf16 amx_tile", True), ("avx512_bf16", False)]
)
def test_the_processor_gains_where_it_has_tiles(tmp_path, flags, gains):
    file = tmp_path / "cpuinfo"
    file.write_text(f"processor\t: 0\nflags\t\t: fpu {flags}\n")
    assert api.has_amx(file) is gains
    assert not api.has_amx(tmp_path / "nothing")


def test_nothing_is_reported_over_the_network(openvino):
    assert "openvino_telemetry" not in sys.modules


def test_threads_are_those_asked_for():
    openvino = OpenVino(threads=1)  # more than there are processors cannot be had
    module = openvino.module
    taken = module.op.Parameter(module.Type.f32, module.Shape([8, 8]))
    compiled = openvino.compile(module.Model([module.opset8.relu(taken)], [taken], "relu"), FP32)
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
