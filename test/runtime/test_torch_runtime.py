"""The torch engine equals ONNX Runtime, in 32 bits and nearly so in 16, and fails as it does."""

import logging

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

import tiny_bundle  # noqa: E402
from onnx import TensorProto, helper  # noqa: E402
from tiny_bundle import MAP, SIZE, with_last, write_tiny_bundle  # noqa: E402

from aopsam_ros.errors import BundleError, EngineError, InferenceError  # noqa: E402
from aopsam_ros.images import read_rgb  # noqa: E402
from aopsam_ros.preprocessing import preprocess  # noqa: E402
from aopsam_ros.runtime import torch_runtime  # noqa: E402
from aopsam_ros.runtime.bundle import DECODER, load_bundle  # noqa: E402
from aopsam_ros.runtime.decoded import all_logits  # noqa: E402
from aopsam_ros.runtime.engines import create_runtime  # noqa: E402
from aopsam_ros.runtime.onnx_runtime import OnnxRuntime  # noqa: E402
from aopsam_ros.runtime.torch_runtime import TorchRuntime  # noqa: E402
from aopsam_ros.runtime.verification import answers, check, sample_inputs  # noqa: E402
from aopsam_ros.segmenter import Segmenter  # noqa: E402

IMAGE = np.random.default_rng(0).normal(size=(1, 3, SIZE, SIZE)).astype(np.float32)
# Relative to an output's largest value: another order of summation, over tens of layers.
CLOSE = 1e-5
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def on_cpu(bundle, precision="fp32"):
    return TorchRuntime(bundle, threads=1, precision=precision, device="cpu")


@pytest.fixture(scope="module")
def bundles(bundle, nano_bundle, mobile_sam_bundle):
    return {"tiny": bundle, "nano": nano_bundle, "mobile_sam": mobile_sam_bundle}


@pytest.fixture(scope="module")
def runtimes(bundles):
    return {name: on_cpu(bundle) for name, bundle in bundles.items()}


@pytest.fixture(scope="module")
def references(bundles):
    return {name: OnnxRuntime(bundle, threads=1) for name, bundle in bundles.items()}


@pytest.fixture(scope="module")
def tiny_runtime(runtimes):
    return runtimes["tiny"]


def arrays_of(decoded):
    return all_logits(decoded), decoded.predicted_iou


def assert_close(found, wanted):
    assert found.shape == wanted.shape and found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=0, atol=CLOSE * max(1.0, np.abs(wanted).max()))


NAMES = ["tiny", "nano", "mobile_sam"]


@pytest.mark.parametrize("name", NAMES)
def test_equals_onnx_runtime_on_the_samples(bundles, runtimes, references, name):
    samples = sample_inputs(bundles[name])
    wanted = answers(references[name], samples)
    for _ in range(2):  # recorded, then run
        found = answers(runtimes[name], samples)
        assert set(found) == set(wanted)
        for output, array in wanted.items():
            assert_close(found[output], array)


# Points, boxes and background; padding where a row has fewer points than the batch.
PROMPTS = {
    "one": [[1]],
    "many": [[1]] * 17,
    "boxes": [[2, 3], [2, 3], [1, -1]],
    "mixed": [[1, -1, -1, -1], [2, 3, -1, -1], [1, 0, 1, -1], [2, 3, 1, 0], [0, 1, 1, 1]],
    "one mixed": [[2, 3, 0, -1]],
}


@pytest.fixture(scope="module")
def frames(bundles, runtimes, references, root):
    """Encode a photograph with both engines, by bundle."""
    rgb = read_rgb(root / "photographs" / "cat.jpg")
    encoded = {}
    for name in ("nano", "mobile_sam"):
        bundle = bundles[name]
        image = preprocess(rgb, bundle.image_size, bundle.mean, bundle.std).tensor
        pair = runtimes[name], references[name]
        encoded[name] = image, [(runtime, runtime.encode(image)) for runtime in pair]
    return encoded


@pytest.mark.parametrize("name", ["nano", "mobile_sam"])
def test_photograph_is_encoded_as_by_onnx_runtime(frames, name):
    image, pairs = frames[name]
    embedding, wanted = (runtime.embedding(handle) for runtime, handle in pairs)
    assert wanted.std() > 0.1
    assert_close(embedding, wanted)
    confidence, wanted = (runtime.predict(image, handle) for runtime, handle in pairs)
    assert_close(confidence, wanted)


@pytest.mark.parametrize("labels", PROMPTS.values(), ids=PROMPTS)
@pytest.mark.parametrize("name", ["nano", "mobile_sam"])
def test_prompts_are_decoded_as_by_onnx_runtime(bundles, frames, name, labels):
    kinds = np.array(labels, np.float32)
    size = bundles[name].image_size
    for seed in range(2):  # recorded, then run
        coords = np.random.default_rng(seed).uniform(0, size, (*kinds.shape, 2)).astype(np.float32)
        found, wanted = (arrays_of(r.decode(h, coords, kinds)) for r, h in frames[name][1])
        assert wanted[0].std() > 0.1
        for array, reference in zip(found, wanted, strict=True):
            assert_close(array, reference)


def test_masks_of_a_scene_are_the_same(bundles, tiny):
    rgb, objects = tiny_bundle.coloured_scene()
    with Segmenter(bundles["tiny"], on_cpu(bundles["tiny"])) as segmenter:
        assert segmenter.engine == "torch"
        found, wanted = segmenter.segment(rgb), tiny.segment(rgb)
    assert len(found.masks) == len(wanted.masks) >= len(objects)
    for mask, reference in zip(found.masks, wanted.masks, strict=True):
        np.testing.assert_array_equal(mask.full(*rgb.shape[:2]), reference.full(*rgb.shape[:2]))


def test_two_frames_do_not_mix(tiny_runtime):
    first, second = tiny_runtime.encode(IMAGE), tiny_runtime.encode(-IMAGE)
    before = tiny_runtime.embedding(first).copy()
    np.testing.assert_allclose(before, -tiny_runtime.embedding(second), atol=1e-6)
    for handle in (first, second):
        tiny_runtime.embedding(handle)[:] = 0.0  # the caller's own copy
    np.testing.assert_array_equal(tiny_runtime.embedding(first), before)


def test_inputs_of_any_layout(tiny_runtime):
    handle = tiny_runtime.encode(IMAGE)
    coords = np.ones((4, 1, 4), np.float64)[:, :, ::2] * 9
    labels = np.ones((4, 1), np.float32)
    wanted = tiny_runtime.decode(handle, np.full((4, 1, 2), 9, np.float32), labels)
    read_only = labels.astype(np.int64)
    read_only.setflags(write=False)
    for found in (
        tiny_runtime.decode(handle, coords, read_only),
        tiny_runtime.decode(handle, np.broadcast_to(np.float32(9), (4, 1, 2)), labels),
    ):
        np.testing.assert_array_equal(all_logits(found), all_logits(wanted))


def test_few_programs_are_kept(bundles):
    runtime = on_cpu(bundles["tiny"])
    handle = runtime.encode(IMAGE)
    for count in [*range(1, 50), 3]:
        logits, iou = arrays_of(
            runtime.decode(
                handle, np.ones((count, 1, 2), np.float32), np.ones((count, 1), np.float32)
            )
        )
        assert len(logits) == len(iou) == count
    (programs,) = [e._programs for n, e in runtime._executors.items() if n == DECODER]
    assert len(programs) == torch_runtime.MOST_PROGRAMS


def test_threads_of_the_process_are_left_as_they_were(bundles):
    before = torch.get_num_threads()
    seen = []
    runtime = TorchRuntime(bundles["tiny"], threads=before + 1, device="cpu")
    with runtime._device.active():
        seen.append(torch.get_num_threads())
    runtime.encode(IMAGE)
    assert seen == [before + 1] and torch.get_num_threads() == before


def test_shapes_are_checked(tiny_runtime):
    with pytest.raises(InferenceError, match="encoder failed in torch: image has shape"):
        tiny_runtime.encode(np.zeros((1, 3, 8, 8), np.float32))
    handle = tiny_runtime.encode(IMAGE)
    with pytest.raises(InferenceError, match="mask_decoder failed in torch: point_coords has"):
        tiny_runtime.decode(handle, np.zeros((2, 2), np.float32), np.ones((2, 1)))
    with pytest.raises(InferenceError, match="mask_decoder failed in torch"):
        tiny_runtime.decode(handle[:, :2], np.zeros((1, 1, 2)), np.ones((1, 1)))
    with pytest.raises(InferenceError, match="mask_decoder gave"):
        tiny_runtime.decode(handle, np.zeros((2, 1, 2)), np.ones((3, 1)))


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
    with pytest.raises(BundleError, match=reason):
        on_cpu(load_bundle(write_tiny_bundle(tmp_path / "b", **change)))


def test_swapped_graphs_are_refused(tmp_path):
    models = {"encoder": tiny_bundle.mask_decoder(), "mask_decoder": tiny_bundle.encoder()}
    with pytest.raises(BundleError, match=r"encoder\.onnx: inputs are embedding, point_coords"):
        on_cpu(load_bundle(write_tiny_bundle(tmp_path / "b", models)))


def test_altered_graph_is_refused(tmp_path):
    folder = write_tiny_bundle(tmp_path / "b")
    with (folder / "encoder.onnx").open("ab") as file:
        file.write(b"\n")
    with pytest.raises(BundleError, match=r"encoder\.onnx: sha256 is"):
        on_cpu(load_bundle(folder))


def test_wrong_element_type_is_refused(tmp_path):
    encoder = tiny_bundle.encoder()
    encoder.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    with pytest.raises(BundleError, match=r"encoder\.onnx: input image is tensor\(double\)"):
        on_cpu(load_bundle(write_tiny_bundle(tmp_path / "b", {"encoder": encoder})))


def test_unknown_operator_is_refused_with_its_graph(tmp_path):
    encoder = with_last(tiny_bundle.encoder(), "embedding", "Gelu", {})
    encoder.opset_import[0].version = 20
    folder = write_tiny_bundle(tmp_path / "b", {"encoder": encoder})
    with pytest.raises(BundleError, match=r"encoder\.onnx: operator set 20"):
        on_cpu(load_bundle(folder))
    predictor = with_last(tiny_bundle.prompt_predictor(), "confidence_map", "Softplus", {})
    folder = write_tiny_bundle(tmp_path / "c", {"prompt_predictor": predictor})
    with pytest.raises(BundleError, match=r"prompt_predictor\.onnx: .* operator Softplus"):
        on_cpu(load_bundle(folder))


def test_unknown_use_of_an_operator_is_refused_when_loading(tmp_path):
    scales = {"roi": np.float32([]), "scales": np.float32([1, 1, 1, 1])}
    encoder = with_last(tiny_bundle.encoder(), "embedding", "Resize", scales, mode="nearest")
    folder = write_tiny_bundle(tmp_path / "b", {"encoder": encoder})
    with pytest.raises(BundleError, match=r"encoder\.onnx: .* Resize \(node 'last'\)"):
        on_cpu(load_bundle(folder))


@pytest.mark.parametrize(
    ("graph", "output"),
    [
        ("prompt_predictor", "confidence_map"),
        ("mask_decoder", "low_res_logits"),
        ("mask_decoder", "predicted_iou"),
    ],
)
def test_output_that_is_not_finite_is_an_inference_error(tmp_path, caplog, graph, output):
    model = with_last(getattr(tiny_bundle, graph)(), output, "Div", {"nothing": np.float32(0)})
    bundle = load_bundle(write_tiny_bundle(tmp_path / "b", {graph: model}))
    segmenter = Segmenter(bundle, on_cpu(bundle))
    assert "a trial of the model in torch failed" in caplog.text
    with pytest.raises(InferenceError, match=f"{output} holds values that are not finite"):
        segmenter.segment(tiny_bundle.coloured_scene()[0])


def test_embedding_that_is_not_finite_is_an_inference_error(tmp_path):
    model = with_last(tiny_bundle.encoder(), "embedding", "Div", {"nothing": np.float32(0)})
    runtime = on_cpu(load_bundle(write_tiny_bundle(tmp_path / "b", {"encoder": model})))
    with pytest.raises(InferenceError, match="embedding holds values"):
        runtime.embedding(runtime.encode(IMAGE))


def test_closed_runtime_says_so(bundles):
    runtime = on_cpu(bundles["tiny"])
    handle = runtime.encode(IMAGE)
    runtime.close()
    runtime.close()
    assert not runtime.has_predictor
    for call in (lambda: runtime.encode(IMAGE), lambda: runtime.predict(IMAGE, handle)):
        with pytest.raises(InferenceError, match="closed"):
            call()


def test_device_and_precision_are_told(tiny_runtime):
    assert (tiny_runtime.name, tiny_runtime.device, tiny_runtime.precision) == (
        "torch", "cpu", "fp32",
    )  # fmt: skip
    assert tiny_runtime.has_predictor


@pytest.mark.parametrize("device", ["tpu", "meta", "cpu:x", ""])
def test_unknown_device_is_refused(bundles, device):
    with pytest.raises(EngineError, match=f"has no device '{device}'"):
        TorchRuntime(bundles["tiny"], device=device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_missing_cuda_device_is_an_engine_error(bundles):
    with pytest.raises(EngineError, match="finds no CUDA device"):
        TorchRuntime(bundles["tiny"], device="cuda")


def test_unknown_precision_is_refused(bundles):
    with pytest.raises(EngineError, match="unknown precision 'int8'; known: auto, fp32, fp16"):
        TorchRuntime(bundles["tiny"], precision="int8")


@pytest.mark.parametrize("name", ["tiny", "mobile_sam"])
def test_half_precision_is_near(bundles, references, name):
    """Not nano: at 512 pixels, 16 bits take many seconds on a CPU."""
    runtime = on_cpu(bundles[name], "fp16")
    assert runtime.precision == "fp16"
    samples = sample_inputs(bundles[name], seed=3)
    wanted, found = answers(references[name], samples), answers(runtime, samples)
    matches = check(name, found, wanted, least_cosine=0.9999)
    assert max(match.difference for match in matches) > 1e-6  # it is not computed in 32 bits


LARGE, LOST = np.float32(1e5), np.float32(3e4)


@pytest.mark.parametrize(
    ("op", "undo", "number", "reason"),
    [("Mul", "Div", LARGE, "not finite"), ("Add", "Sub", LOST, "their cosine is")],
    ids=["overflow", "lost digits"],
)
def test_half_precision_that_is_wrong_falls_back(tmp_path, caplog, op, undo, number, reason):
    encoder = with_last(tiny_bundle.encoder(), "embedding", op, {"number": number})
    encoder.graph.node[-1].output[0] = "large"
    encoder.graph.node.append(helper.make_node(undo, ["large", "number"], ["embedding"]))
    bundle = load_bundle(write_tiny_bundle(tmp_path / "b", {"encoder": encoder}))
    with caplog.at_level(logging.WARNING):
        runtime = on_cpu(bundle, "fp16")
    assert runtime.precision == "fp32"
    (record,) = caplog.records
    assert "torch computes in fp32" in record.getMessage() and reason in record.getMessage()
    pooled = IMAGE.reshape(1, 3, MAP, 2, MAP, 2).mean((3, 5))[:, [1, 2, 0]]
    np.testing.assert_allclose(runtime.embedding(runtime.encode(IMAGE)), pooled, atol=0.01)


def test_half_precision_that_torch_cannot_compute_falls_back(bundles, caplog, monkeypatch):
    real = torch_runtime.record

    def without_half(graph, weights, inputs, half):
        if half:
            raise RuntimeError('"conv" not implemented for Half')
        return real(graph, weights, inputs, half)

    monkeypatch.setattr(torch_runtime, "record", without_half)
    runtime = on_cpu(bundles["tiny"], "fp16")
    assert runtime.precision == "fp32"
    assert 'failed in torch: "conv" not implemented for Half' in caplog.text
    assert runtime.embedding(runtime.encode(IMAGE)).shape == (1, 3, MAP, MAP)


def test_coordinates_keep_their_precision_in_16_bits(bundles, tiny_runtime):
    """Every prompt's smallest mask is of the very cell's colour that it lies on."""
    coords = np.random.default_rng(0).uniform(0, SIZE, (300, 1, 2)).astype(np.float32)
    labels = np.ones((300, 1), np.float32)
    steps = np.arange(SIZE, dtype=np.float32) // 2 % 7 / 4  # neighbouring cells differ
    image = np.stack(np.broadcast_arrays(0.0, steps, steps[:, None]))[None].astype(np.float32)
    half = on_cpu(bundles["tiny"], "fp16")
    found, wanted = (
        all_logits(r.decode(r.encode(image), coords, labels)) for r in (half, tiny_runtime)
    )
    assert half.precision == "fp16"
    masks = wanted[:, 0] > 0
    assert len(np.unique(masks, axis=0)) > 20
    np.testing.assert_array_equal(found[:, 0] > 0, masks)


@needs_cuda
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", NAMES)
def test_cuda_equals_onnx_runtime(bundles, references, name, precision):
    runtime = TorchRuntime(bundles[name], precision=precision, device="cuda")
    assert (runtime.device, runtime.precision) == ("cuda", precision)
    samples = sample_inputs(bundles[name])
    wanted = answers(references[name], samples)
    for _ in range(3):  # recorded, captured, replayed
        check(name, answers(runtime, samples), wanted, 0.9999 if precision == "fp32" else 0.999)
    assert not runtime._device._graphs._is_broken
    runtime.close()


PRECISION_OF = {"cpu": "fp32", "cuda": "fp16"}


def test_torch_is_an_engine_by_name(bundles, caplog):
    caplog.set_level("INFO")
    runtime = create_runtime(bundles["tiny"], "torch", threads=1)
    assert (runtime.name, runtime.precision) == ("torch", PRECISION_OF[runtime.device])
    assert f"engine torch on {runtime.device} (as requested)" in caplog.text
    runtime.close()
