"""Memory in use, of the process and of the GPU."""

from __future__ import annotations

import os
from pathlib import Path

from aopsam_ros.engines.tensorrt.cuda import Device
from aopsam_ros.errors import CudaError

_STATM = Path("/proc/self/statm")
_MB = 1e6
UNKNOWN = float("nan")


def resident_mb() -> float:
    """Return what the process occupies in memory; NaN where the system does not tell."""
    try:
        pages = int(_STATM.read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return UNKNOWN
    return pages * os.sysconf("SC_PAGE_SIZE") / _MB


class GpuMemory:
    """Memory in use on the GPU that the engine runs on, by anybody. For one thread."""

    def __init__(self, device: str) -> None:
        """Open the GPU, where `device` is one."""
        self._gpu: Device | None = None
        if device != "cuda":
            return
        try:
            self._gpu = Device()
        except CudaError:
            return

    def used_mb(self) -> float:
        """Return it; NaN without a GPU."""
        if self._gpu is None:
            return UNKNOWN
        try:
            self._gpu.make_current()
            return self._gpu.memory_used() / _MB
        except CudaError:
            return UNKNOWN

    def close(self) -> None:
        """Let go of the GPU."""
        if self._gpu is not None:
            self._gpu.close()
            self._gpu = None
