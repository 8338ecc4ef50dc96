"""When functions are captured, replayed and given up, with a stand-in for `torch.cuda`."""

import logging
from contextlib import contextmanager

import pytest

torch = pytest.importorskip("torch")

from aopsam_ros.runtime.torch_engine.cuda_graphs import CudaGraphs  # noqa: E402

STREAM = object()


class FakeGraph:
    """Writes to the places that its calls gave when they were captured, as a real one does."""

    def __init__(self):
        self.calls = []

    def replay(self):
        for outputs, repeat in self.calls:
            for place, value in zip(outputs, repeat(), strict=True):
                place.copy_(value)


class FakeCuda:
    def __init__(self, error=None):
        self.error = error
        self.open = None
        self.captures = 0

    def CUDAGraph(self):  # noqa: N802
        return FakeGraph()

    @contextmanager
    def graph(self, graph, stream, capture_error_mode):
        assert stream is STREAM and capture_error_mode == "thread_local"
        if self.error:
            raise self.error
        self.captures += 1
        self.open = graph
        try:
            yield
        finally:
            self.open = None


class Kernel:
    """Two outputs of two inputs; counts its calls from Python."""

    def __init__(self, cuda, factor=2.0):
        self.cuda, self.factor, self.calls = cuda, factor, 0

    def __call__(self, a, b):
        self.calls += 1
        outputs = self.compute(a, b)
        if self.cuda.open is not None:
            self.cuda.open.calls.append((outputs, lambda: self.compute(a, b)))
        return outputs

    def compute(self, a, b):
        return [self.factor * a + b, a - b]


def inputs(seed, size=3):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(size, generator=generator) for _ in range(2)]


def assert_right(kernel, found, given):
    for value, wanted in zip(found, kernel.compute(*given), strict=True):
        torch.testing.assert_close(value, wanted)


def test_captured_once_and_replayed_with_new_inputs():
    cuda = FakeCuda()
    graphs, kernel = CudaGraphs(cuda, STREAM), Kernel(cuda)
    kept = []
    for seed in range(4):
        given = inputs(seed)
        kept.append((graphs.run("a", kernel, given), given))
        assert kernel.calls == 1
    for found, given in kept:  # earlier answers are not overwritten by later ones
        assert_right(kernel, found, given)
    assert cuda.captures == 1


def test_callers_inputs_are_not_written_to():
    cuda = FakeCuda()
    graphs, kernel = CudaGraphs(cuda, STREAM), Kernel(cuda)
    first, second = inputs(0), inputs(1)
    graphs.run("a", kernel, first)
    graphs.run("a", kernel, second)
    for value, wanted in zip([*first, *second], [*inputs(0), *inputs(1)], strict=True):
        assert torch.equal(value, wanted)


def test_keys_do_not_mix():
    cuda = FakeCuda()
    graphs = CudaGraphs(cuda, STREAM)
    kernels = {key: Kernel(cuda, factor) for key, factor in [("a", 1.0), ("b", 5.0)]}
    for seed in range(6):
        for key, kernel in kernels.items():
            given = inputs(seed, size=3 + len(kernels))
            assert_right(kernel, graphs.run(key, kernel, given), given)
    assert cuda.captures == 2


def test_failing_capture_is_said_once_and_not_tried_again(caplog):
    cuda = FakeCuda(RuntimeError("operation not permitted\nlong explanation"))
    graphs, kernel = CudaGraphs(cuda, STREAM), Kernel(cuda)
    with caplog.at_level(logging.WARNING):
        for key in ("a", "b", "a"):
            given = inputs(7)
            assert_right(kernel, graphs.run(key, kernel, given), given)
    (record,) = caplog.records
    assert "CUDA graphs cannot be used (operation not permitted)" in record.getMessage()
    assert "long explanation" not in record.getMessage()


def test_function_that_cannot_be_captured_runs_uncaptured(caplog):
    cuda = FakeCuda()
    graphs, good = CudaGraphs(cuda, STREAM), Kernel(cuda)
    graphs.run("good", good, inputs(0))

    def fussy(a, b):
        if cuda.open is not None:
            raise RuntimeError("it waits for the device")
        return [a + b]

    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            given = inputs(1)
            (found,) = graphs.run("fussy", fussy, given)
            assert torch.equal(found, given[0] + given[1])
            assert_right(good, graphs.run("good", good, given), given)
    assert len(caplog.records) == 1 and "it waits for the device" in caplog.text


def test_errors_of_the_function_itself_are_handed_on():
    cuda = FakeCuda(RuntimeError("no capture"))
    graphs = CudaGraphs(cuda, STREAM)

    def broken(*_):
        raise ValueError("out of memory")

    for _ in range(2):
        with pytest.raises(ValueError, match="out of memory"):
            graphs.run("a", broken, inputs(0))


def test_only_a_few_are_kept_and_equal_use_does_not_push_them_out():
    cuda = FakeCuda()
    graphs, kernel = CudaGraphs(cuda, STREAM, limit=2), Kernel(cuda)
    for seed in range(20):
        for key in ("a", "b", "c"):
            given = inputs(seed)
            assert_right(kernel, graphs.run(key, kernel, given), given)
    assert cuda.captures == 2


def test_one_used_much_more_takes_the_place_of_the_least_used():
    cuda = FakeCuda()
    graphs, kernel = CudaGraphs(cuda, STREAM, limit=2), Kernel(cuda)
    for key, times in (("often", 9), ("rare", 3), ("new", 8)):
        for seed in range(times):
            given = inputs(seed)
            assert_right(kernel, graphs.run(key, kernel, given), given)
    assert cuda.captures == 3
    before = kernel.calls
    graphs.run("often", kernel, inputs(0))
    graphs.run("new", kernel, inputs(0))
    assert kernel.calls == before  # both are captured
    graphs.run("rare", kernel, inputs(0))
    assert kernel.calls == before + 1 and cuda.captures == 3


def test_closing_frees_what_was_captured():
    cuda = FakeCuda()
    graphs, kernel = CudaGraphs(cuda, STREAM), Kernel(cuda)
    graphs.run("a", kernel, inputs(0))
    graphs.close()
    given = inputs(1)
    assert_right(kernel, graphs.run("a", kernel, given), given)
    assert cuda.captures == 2
