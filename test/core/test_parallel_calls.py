"""Parts of a decoder run at once: the same results in order, errors raised, threads that end."""

import threading
import time

import numpy as np
import pytest

from aopsam_ros.bundle.loading import load_bundle
from aopsam_ros.engines.base import EngineOptions, all_logits
from aopsam_ros.engines.onnxruntime import OnnxRuntimeEngine
from aopsam_ros.engines.split_decoder import LEAST_AT_ONCE, ParallelCalls
from aopsam_ros.errors import InferenceError
from support.random_weights import uniform


@pytest.fixture(params=[1, 2, 3])
def calls(request):
    made = ParallelCalls(request.param)
    yield made
    made.close()


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 8, 9, 16, 17, 100])
@pytest.mark.parametrize("largest", [2, 16, 64])
def test_all_are_called_once_in_chunks_and_answer_in_order(calls, count, largest):
    found = calls.in_chunks(lambda part: list(range(part.start, part.stop)), count, largest)
    assert [number for part in found for number in part] == list(range(count))
    assert all(0 < len(part) <= largest for part in found)
    if count >= LEAST_AT_ONCE * calls.threads and largest >= LEAST_AT_ONCE:
        assert len(found) >= calls.threads


def test_every_thread_has_a_call_at_the_same_time(calls):
    meeting = threading.Barrier(calls.threads, timeout=10)
    found = calls.in_chunks(lambda _: meeting.wait(), LEAST_AT_ONCE * calls.threads, 64)
    assert sorted(found) == list(range(calls.threads))


def test_an_error_is_raised_once_all_have_ended():
    calls, ended = ParallelCalls(2), []

    def work(part):
        if part.start == 0:
            raise InferenceError("graph failed")
        time.sleep(0.05)
        ended.append(part.stop)

    with pytest.raises(InferenceError, match="graph failed"):
        calls.in_chunks(work, 8, 4)
    assert ended == [8]
    calls.close()


def decoder_threads():
    return [t for t in threading.enumerate() if t.name.startswith("aopsam_decoder")]


def test_masks_are_the_same_in_any_number_of_threads_which_end_with_the_engine():
    bundle, results = load_bundle("nano"), []
    image = uniform("image", (1, 3, 512, 512), -2.0, 2.0)
    coords = uniform("coords", (37, 1, 2), 0.0, 512.0)
    labels = np.ones((37, 1), np.float32)
    for threads in (1, 2, 5):
        before = len(decoder_threads())
        engine = OnnxRuntimeEngine(bundle, EngineOptions(threads=threads, precision="fp32"))
        handle = engine.encode(image)
        decoded = engine.decode(handle, coords, labels)
        results.append((all_logits(decoded), decoded.predicted_iou))
        assert len(decoder_threads()) - before == {1: 0, 2: 2, 5: 4}[threads]
        engine.close()
        assert len(decoder_threads()) == before
        with pytest.raises(InferenceError, match="closed"):
            engine.decode(handle, coords, labels)
    for logits, iou in results[1:]:
        np.testing.assert_allclose(logits, results[0][0], atol=1e-3)
        np.testing.assert_allclose(iou, results[0][1], atol=1e-5)
