"""Peak memory: of the process, and of the GPU where the engine runs on one.

Memory that an allocator took once is seldom given back, so that only a fresh process shows what a
configuration needs: see `memory_probe`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from aopsam_ros.segmentation.stopwatch import STAGES, Stopwatch

_MIB = 1 << 20
_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # see proc(5)


class Meter(Protocol):
    """Tells how much memory is in use, and the most since it was last reset; MiB."""

    def reset(self) -> float:
        """Start a new peak; return what is in use."""

    def peak(self) -> float:
        """Return the most that was in use since `reset`."""


class ProcessMemory:
    """Resident memory of this process, by Linux's own high-water mark: no peak is missed.

    Where the mark cannot be reset, the peak is what is in use when it is asked for.
    """

    def reset(self) -> float:
        """See `Meter`."""
        try:
            _CLEAR.write_text(_RESET_PEAK)
            self._field = "VmHWM"
        except OSError:
            self._field = "VmRSS"
        return _status("VmRSS")

    def peak(self) -> float:
        """See `Meter`."""
        return _status(self._field)


class DeviceMemory:
    """Memory in use on the first GPU, by NVML.

    Engines keep what their arenas grew to, so that what is in use after a stage is its peak, if
    nothing else works on that GPU.
    """

    def __init__(self) -> None:
        """Open NVML; ImportError or its own error where there is none."""
        import pynvml

        pynvml.nvmlInit()
        device = pynvml.nvmlDeviceGetHandleByIndex(0)
        self._used: Callable[[], int] = lambda: pynvml.nvmlDeviceGetMemoryInfo(device).used

    def reset(self) -> float:
        """See `Meter`."""
        return float(self._used()) / _MIB

    def peak(self) -> float:
        """See `Meter`."""
        return float(self._used()) / _MIB


def device_memory() -> DeviceMemory | None:
    """Return NVML's view of the GPU; None where it is not installed or there is no GPU."""
    try:
        return DeviceMemory()
    except Exception:  # NVML has error classes of its own, and may not be installed
        return None


class MemoryStopwatch(Stopwatch):
    """A stopwatch that also notes, by meter, how far memory grew in each stage and the highest.

    `growth[meter][stage]` is the largest growth of a stage, `highest[meter]` the peak of them all;
    MiB.
    """

    def __init__(self, meters: Sequence[Meter]) -> None:
        """Start now."""
        super().__init__()
        self._meters = meters
        self.growth = [dict.fromkeys(STAGES, 0.0) for _ in meters]
        self.highest = [0.0 for _ in meters]

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count time and memory inside the `with` block to a stage of `STAGES`."""
        before = [meter.reset() for meter in self._meters]
        try:
            with super().stage(name):
                yield
        finally:
            for index, meter in enumerate(self._meters):
                peak = meter.peak()
                growth = self.growth[index]
                growth[name] = max(growth[name], peak - before[index])
                self.highest[index] = max(self.highest[index], peak)


def _status(field: str) -> float:
    """Read a field of the process's status in MiB; 0 where there is no such file."""
    if not _STATUS.exists():
        return 0.0
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return float(line.split()[1]) / 1024
    return 0.0
