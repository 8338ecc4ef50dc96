"""TensorRT's engine on all versions: right results, from the GPU's memory, allocated once."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from aopsam_ros.engines.onnxruntime import OnnxRuntimeEngine
from aopsam_ros.engines.tensorrt.graph import LARGEST_BATCH, MOST_POINTS
from aopsam_ros.engines.verification import answers, compare, sample_inputs
from aopsam_ros.errors import EngineError, InferenceError
from aopsam_ros.segmentation.segmenter import Segmenter
from support.gpu import Gpu
from support.scenes import coloured_scene
from support.stand_in.cuda import ILLEGAL_ADDRESS
from support.tiny_bundle import IMAGE, MAP, prompts


@pytest.fixture
def engine(gpu, bundle):
    engine = gpu.start(bundle)
    yield engine
    engine.close()


@pytest.fixture
def modern(modern_gpu, bundle):
    engine = modern_gpu.start(bundle)
    yield engine
    engine.close()


def test_results_are_those_of_onnx_runtime(engine, bundle):
    samples = sample_inputs(bundle)
    found, wanted = answers(engine, samples), answers(OnnxRuntimeEngine(bundle), samples)
    assert min(match.cosine for match in compare("TensorRT", found, wanted)) > 0.999999


def test_a_photograph_has_the_same_masks(gpu, bundle):
    rgb, _ = coloured_scene(240, 320)
    with Segmenter(bundle, gpu.start(bundle)) as segmenter:
        found = segmenter.segment(rgb)
    wanted = Segmenter(bundle, OnnxRuntimeEngine(bundle)).segment(rgb)
    assert [m.counts.tolist() for m in found.masks] == [m.counts.tolist() for m in wanted.masks]
    assert [m.bbox for m in found.masks] == [m.bbox for m in wanted.masks]
    assert len(found.masks) >= 3
    assert [(p.x, p.y, p.state) for p in found.prompts] == [
        (p.x, p.y, p.state) for p in wanted.prompts
    ]


def test_memory_is_allocated_once(gpu, engine):
    before = dict(gpu.driver.memory)
    for seed in range(3):
        handle = engine.encode(IMAGE)
        engine.predict(IMAGE, handle)
        engine.decode(handle, *prompts(LARGEST_BATCH, MOST_POINTS, seed))
        engine.decode(handle, *prompts(1))
    assert gpu.driver.memory.keys() == before.keys()


def test_only_small_results_leave_the_gpu(modern_gpu, modern, watched):
    copies = watched(modern_gpu.driver, "cuMemcpyDtoHAsync_v2")
    handle = modern.encode(IMAGE)
    assert copies == []
    decoded = modern.decode(handle, *prompts(7))
    assert [size.value for _, _, size, _ in copies] == [7 * 3 * 4]
    decoded.logits(np.array([6, 2]), np.array([0, 1]))
    assert [size.value for _, _, size, _ in copies[1:]] == [MAP * MAP * 4] * 2


def test_what_was_overwritten_is_refused(modern):
    first = modern.encode(IMAGE)
    decoded = modern.decode(first, *prompts(2))
    modern.decode(first, *prompts(3))
    with pytest.raises(InferenceError, match="overwritten by a later call"):
        decoded.logits(np.array([0]), np.array([0]))
    modern.encode(-IMAGE)
    for use in (
        modern.embedding,
        lambda h: modern.predict(IMAGE, h),
        lambda h: modern.decode(h, *prompts(1)),
    ):
        with pytest.raises(InferenceError, match="overwritten by a later call"):
            use(first)


def test_any_thread_may_read_what_another_has_left(modern):
    handle = modern.encode(IMAGE)
    with ThreadPoolExecutor(1) as other:
        found = other.submit(modern.embedding, handle).result()
    np.testing.assert_array_equal(found, modern.embedding(handle))


def test_a_closed_engine_says_so(modern):
    handle = modern.encode(IMAGE)
    modern.close()
    for use in (
        lambda: modern.encode(IMAGE),
        lambda: modern.embedding(handle),
        lambda: modern.decode(handle, *prompts(1)),
    ):
        with pytest.raises(InferenceError, match="the engine is closed"):
            use()


@pytest.mark.parametrize(
    ("count", "points"), [(LARGEST_BATCH + 1, 1), (1, MOST_POINTS + 1), (0, 1)]
)
def test_too_many_prompts_are_refused(modern, count, points):
    handle = modern.encode(IMAGE)
    with pytest.raises(InferenceError, match=f"not {count} of {points}"):
        modern.decode(handle, *prompts(count, points))


def test_more_prompts_than_fit_are_decoded_in_parts(modern, bundle):
    segmenter = Segmenter(bundle, modern)
    rgb, _ = coloured_scene(120, 160)
    coords, labels = prompts(2 * LARGEST_BATCH + 1)
    logits, iou = segmenter.decode(segmenter.encode(rgb), coords, labels)
    assert logits.shape == (2 * LARGEST_BATCH + 1, 3, MAP, MAP)
    assert iou.shape == (2 * LARGEST_BATCH + 1, 3)
    reference = Segmenter(bundle, OnnxRuntimeEngine(bundle))
    wanted, _ = reference.decode(reference.encode(rgb), coords, labels)
    np.testing.assert_allclose(logits, wanted, atol=1e-4)


def test_an_image_of_another_size_is_refused(engine):
    with pytest.raises(InferenceError, match="encoder takes images of shape"):
        engine.encode(IMAGE[:, :, :64])


def test_an_engine_that_does_not_run_is_an_inference_error(gpu, engine):
    gpu.faults.refuses_to_run = True
    with pytest.raises(InferenceError, match="encoder failed in TensorRT"):
        engine.encode(IMAGE)


@pytest.mark.parametrize("function", ["cuMemcpyHtoDAsync_v2", "cuStreamSynchronize"])
def test_a_failing_gpu_is_an_inference_error(modern_gpu, modern, function):
    modern_gpu.driver.fails[function] = ILLEGAL_ADDRESS
    with pytest.raises(InferenceError, match=f"encoder failed: {function}"):
        modern.encode(IMAGE)
    modern_gpu.driver.fails.clear()
    modern.embedding(modern.encode(IMAGE))


def test_a_gpu_that_is_gone_can_be_let_go_of(bundle, tmp_path, caplog):
    gpu = Gpu("10.3.0", tmp_path)
    engine = gpu.start(bundle)
    for name in ("CtxSetCurrent", "MemFree_v2", "StreamDestroy_v2", "StreamSynchronize"):
        gpu.driver.fails[f"cu{name}"] = ILLEGAL_ADDRESS
    with pytest.raises(InferenceError, match="encoder failed"):
        engine.encode(IMAGE)
    engine.close()
    engine.close()
    assert "cuMemFree_v2 failed" in caplog.text


def test_values_that_are_not_finite_are_refused(modern):
    image = IMAGE.copy()
    image[0, 0, 0, 0] = np.inf
    with pytest.raises(InferenceError, match="embedding holds values that are not finite"):
        modern.embedding(modern.encode(image))


@pytest.mark.parametrize("reason", ["out of memory", "no room for its work"])
def test_too_little_memory_at_start_leaves_nothing_behind(modern_gpu, bundle, reason):
    modern_gpu.start_and_stop(bundle)
    if reason == "out of memory":
        modern_gpu.driver.room = 300_000
    else:
        modern_gpu.faults.no_context = True
    with pytest.raises(EngineError, match=reason):
        modern_gpu.start(bundle)
