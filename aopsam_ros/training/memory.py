"""The C library's allocator, told to keep what training frees."""

from __future__ import annotations

import ctypes

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # names of glibc's mallopt parameters


def keep_freed_memory() -> bool:
    """Keep large buffers between steps instead of giving them back and faulting them in again.

    Training on a CPU allocates hundreds of megabytes a step; page faults took a third of the time.

    Returns:
        False where the C library has no `mallopt` (not glibc): nothing changes there.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(MMAP_MAX, 0)) and bool(mallopt(TRIM_THRESHOLD, 2**31 - 1))
