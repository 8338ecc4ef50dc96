"""Where the torch engine computes: a CPU, or a CUDA device with a stream of its own.

What concerns CUDA was written against torch's documentation and has not been run on a device yet.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aopsam_ros.errors import EngineError
from aopsam_ros.runtime.torch_engine.cuda_graphs import CudaGraphs

CPU, CUDA = "cpu", "cuda"
Floats = NDArray[np.float32]


class Device(Protocol):
    """What the engine asks of a device."""

    kind: str
    place: torch.device

    def active(self) -> Any:  # noqa: ANN401
        """Return the context in which everything else is called."""

    def upload(self, array: Floats) -> Tensor:
        """Bring an array to the device; it may be changed after the device was waited for."""

    def download(self, values: Sequence[Tensor]) -> list[Floats]:
        """Wait for values and bring them to the host."""

    def run(
        self, key: Hashable, function: Callable[..., list[Tensor]], inputs: Sequence[Tensor]
    ) -> list[Tensor]:
        """Call a function that ran before with inputs of these shapes; `key` names both."""

    def release(self) -> None:
        """Give memory back that nothing uses."""


def open_device(name: str | None, threads: int) -> Device:
    """Return a device that works.

    Args:
        name: as torch calls it, such as "cpu" or "cuda:1"; None for CUDA if there is a device.
        threads: of an operator on a CPU; 0 leaves the choice to torch.

    Raises:
        EngineError: if there is no such device, or torch cannot compute on it.
    """
    if name is None:
        name = CUDA if torch.cuda.is_available() else CPU
    try:
        place = torch.device(name)
    except RuntimeError:
        place = None
    if place is None or place.type not in (CPU, CUDA):
        raise EngineError(f"engine 'torch' has no device '{name}'; use {CPU} or {CUDA}")
    if place.type == CPU:
        return CpuDevice(place, threads)
    if not torch.cuda.is_available():
        raise EngineError(
            f"engine 'torch' finds no CUDA device (torch {torch.__version__}); "
            "install torch for CUDA and NVIDIA's driver"
        )
    try:
        # A torch that was not built for this device is noticed only when it computes.
        torch.ones(1, device=place).add_(1).item()
        return CudaDevice(place)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise EngineError(f"engine 'torch' cannot use {name}: {reason}") from error


class CpuDevice:
    """The host itself: arrays and tensors share their memory."""

    kind = CPU

    def __init__(self, place: torch.device, threads: int) -> None:
        self.place = place
        self._threads = threads

    @contextmanager
    def active(self) -> Iterator[None]:
        """Compute without gradients, with the wanted number of threads."""
        before = torch.get_num_threads()
        if self._threads:
            torch.set_num_threads(self._threads)
        try:
            with torch.inference_mode():
                yield
        finally:
            # The setting is the whole process's, and others may have made theirs.
            if self._threads:
                torch.set_num_threads(before)

    def upload(self, array: Floats) -> Tensor:
        """Wrap an array."""
        return torch.from_numpy(_writable(array))

    def download(self, values: Sequence[Tensor]) -> list[Floats]:
        """Unwrap values."""
        return [value.contiguous().numpy() for value in values]

    def run(
        self,
        key: Hashable,  # noqa: ARG002
        function: Callable[..., list[Tensor]],
        inputs: Sequence[Tensor],
    ) -> list[Tensor]:
        """Call the function."""
        return function(*inputs)

    def release(self) -> None:
        """Do nothing: memory is given back at once."""


class CudaDevice:
    """A CUDA device: copies through pinned memory, kernels in CUDA graphs."""

    kind = CUDA

    def __init__(self, place: torch.device) -> None:
        self.place = place
        self._stream = torch.cuda.Stream(place)
        self._graphs = CudaGraphs(torch.cuda, self._stream)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Compute without gradients, on the own stream."""
        place, stream = torch.cuda.device(self.place), torch.cuda.stream(self._stream)
        with place, stream, torch.inference_mode():
            yield

    def upload(self, array: Floats) -> Tensor:
        """Copy through pinned memory, which torch keeps and hands out again."""
        pinned = torch.empty(array.shape, dtype=torch.float32, pin_memory=True)
        pinned.copy_(torch.from_numpy(_writable(array)))
        return pinned.to(self.place, non_blocking=True)

    def download(self, values: Sequence[Tensor]) -> list[Floats]:
        """Copy all values, then wait once."""
        pinned = [torch.empty(v.shape, dtype=v.dtype, pin_memory=True) for v in values]
        for target, value in zip(pinned, values, strict=True):
            target.copy_(value, non_blocking=True)
        self._stream.synchronize()
        return [target.numpy() for target in pinned]

    def run(
        self, key: Hashable, function: Callable[..., list[Tensor]], inputs: Sequence[Tensor]
    ) -> list[Tensor]:
        """Call the function through a CUDA graph."""
        return self._graphs.run(key, function, inputs)

    def release(self) -> None:
        """Free captured graphs and cached memory."""
        self._graphs.close()
        torch.cuda.empty_cache()


def _writable(array: Floats) -> Floats:
    """Return contiguous float32 that torch may wrap; it warns about memory that is read-only."""
    array = np.ascontiguousarray(array, np.float32)
    return array if array.flags.writeable else array.copy()
