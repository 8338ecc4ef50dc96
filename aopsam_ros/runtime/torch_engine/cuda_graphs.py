"""CUDA graphs: a program's kernels are recorded once and launched together from then on.

Small models spend more time launching kernels than computing. No CUDA device was at hand when this
was written: the tests use a stand-in for `torch.cuda`, and those that need a device are skipped
without one.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from torch import Tensor

Function = Callable[..., list[Tensor]]

_LOGGER = logging.getLogger(__name__)


class CudaGraphs:
    """Captured functions, at most a few: each keeps the memory of all its values.

    Args:
        cuda: `torch.cuda`.
        stream: the one everything runs on.
        limit: how many are kept.
    """

    def __init__(self, cuda: Any, stream: Any, limit: int = 4) -> None:  # noqa: ANN401
        self._cuda = cuda
        self._stream = stream
        self._limit = limit
        self._kept: dict[Hashable, _Captured] = {}
        self._uses: Counter[Hashable] = Counter()
        self._is_broken = False

    def run(self, key: Hashable, function: Function, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return `function(*inputs)`, captured if that is possible.

        Args:
            key: the same for the same function and shapes.
            function: has run before with such inputs, which got everything ready that must not be
                captured; takes and gives tensors on the device and never waits for it.
            inputs: their values may differ from call to call.
        """
        if self._is_broken:
            return function(*inputs)
        self._uses[key] += 1
        if key not in self._kept and self._has_room(key):
            self._capture(key, function, inputs)
        captured = self._kept.get(key)
        return captured.replay(inputs) if captured else function(*inputs)

    def close(self) -> None:
        """Free the captured functions."""
        self._kept.clear()

    def _has_room(self, key: Hashable) -> bool:
        """Make room for a key that is used twice as often as a kept one.

        Less than that, and two of about the same use would push each other out all the time.
        """
        if len(self._kept) < self._limit:
            return True
        least = min(self._kept, key=lambda kept: self._uses[kept])
        if self._uses[key] < 2 * self._uses[least]:
            return False
        del self._kept[least]
        return True

    def _capture(self, key: Hashable, function: Function, inputs: Sequence[Tensor]) -> None:
        try:
            self._kept[key] = _Captured(self._cuda, self._stream, function, inputs)
        except Exception as error:
            # What fails once fails again, and each time costs far more than it could win.
            self._is_broken = True
            self._kept.clear()
            reason = str(error).strip().splitlines()
            _LOGGER.warning(
                "CUDA graphs cannot be used (%s); kernels are launched one by one, which is slower",
                reason[0][:200] if reason else type(error).__name__,
            )


class _Captured:
    """A function's kernels with fixed places for its inputs and outputs."""

    def __init__(
        self,
        cuda: Any,  # noqa: ANN401
        stream: Any,  # noqa: ANN401
        function: Function,
        inputs: Sequence[Tensor],
    ) -> None:
        self._function = function  # holds the constants that the kernels read
        self._inputs = [value.clone() for value in inputs]
        self._graph = cuda.CUDAGraph()
        # Calls of other threads do not disturb: they have streams of their own.
        with cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
            self._outputs = function(*self._inputs)

    def replay(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        for place, value in zip(self._inputs, inputs, strict=True):
            place.copy_(value)
        self._graph.replay()
        # Copies: the next replay writes to the same places.
        return [value.clone() for value in self._outputs]
