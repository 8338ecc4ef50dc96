"""Memory in use by the process and on the GPU, and what glibc's malloc keeps of freed memory."""

import contextlib
import ctypes
import os
from pathlib import Path

from aopsam_ros.engines.tensorrt.cuda import Device
from aopsam_ros.errors import CudaError

UNKNOWN = float("nan")
_MB = 1e6
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
_MMAP_THRESHOLD_BYTES = 32 << 20  # the most that glibc allows
_TRIM_THRESHOLD_BYTES = 64 << 20
_USER_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def resident_mb() -> float:
    """Return the resident memory of the process, MB; NaN where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return UNKNOWN
    return pages * os.sysconf("SC_PAGE_SIZE") / _MB


class GpuMemory:
    """Memory in use on the GPU of the engine, by any process. For one thread."""

    def __init__(self, device: str) -> None:
        """Open the GPU, where `device` is "cuda"."""
        self._gpu: Device | None = None
        if device == "cuda":
            with contextlib.suppress(CudaError):
                self._gpu = Device()

    def used_mb(self) -> float:
        """Return the memory in use, MB; NaN without a GPU."""
        if self._gpu is None:
            return UNKNOWN
        try:
            self._gpu.make_current()
            return self._gpu.memory_used() / _MB
        except CudaError:
            return UNKNOWN

    def close(self) -> None:
        """Close the GPU."""
        if self._gpu is not None:
            self._gpu.close()
            self._gpu = None


def keep_freed_memory() -> None:
    """Let malloc keep freed memory for the next image, up to 64 MB at a heap's end.

    An image is copied several times on its way in, each time into new memory: the kernel clears
    it page by page, which takes longer than the copies. No effect where the C library is not glibc,
    or the user has set malloc up in the environment.
    """
    if any(name in os.environ for name in _USER_SETTINGS):
        return
    with contextlib.suppress(OSError, AttributeError):
        glibc = ctypes.CDLL(None)
        glibc.mallopt(_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)
        glibc.mallopt(_TRIM_THRESHOLD, _TRIM_THRESHOLD_BYTES)


def return_freed_memory() -> None:
    """Return all freed memory to the kernel (glibc only)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
