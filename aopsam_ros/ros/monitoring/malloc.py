"""Memory that one image gives free and the next one needs."""

from __future__ import annotations

import contextlib
import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST_KEPT = 32 << 20  # bytes; the most that glibc allows
_KEPT_IN_ALL = 64 << 20
_OWN_CHOICES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> None:
    """Let the process keep freed memory for the next image, up to 64 MB at a heap's end.

    On its way in, an image is copied several times, into memory that is new each time: the kernel
    clears it page by page, which takes longer than the copies. Without effect where the C library
    is not glibc, or the user has set it up in the environment.
    """
    if any(name in os.environ for name in _OWN_CHOICES):
        return
    with contextlib.suppress(OSError, AttributeError):
        glibc = ctypes.CDLL(None)
        glibc.mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT)
        glibc.mallopt(_TRIM_THRESHOLD, _KEPT_IN_ALL)


def give_back_freed_memory() -> None:
    """Return to the kernel what is free, also between what is not (glibc only)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
