"""The training process: batches from a process of their own, and memory that is kept."""

import contextlib
import ctypes
from collections.abc import Iterator
from typing import Any

import torch

from aopsam_ros.errors import AopsamError

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # names of glibc's mallopt parameters


def endless_batches(batches: torch.utils.data.IterableDataset) -> Iterator[Any]:
    """Yield the batches of an endless data set, a few prepared ahead in another process.

    Raises:
        AopsamError: of the data set, with its own message.
    """
    # Spawned: a fork of a process that has threads, as of OpenMP, can wait for their locks forever.
    loader: torch.utils.data.DataLoader = torch.utils.data.DataLoader(
        batches, batch_size=None, num_workers=1, prefetch_factor=4, multiprocessing_context="spawn"
    )
    try:
        yield from loader
    except AopsamError as error:
        # torch puts the worker's whole traceback before the message.
        last = str(error).strip().splitlines()[-1]
        raise type(error)(last.partition(": ")[2] or last) from error


@contextlib.contextmanager
def flushed_denormals() -> Iterator[None]:
    """Treat the tiniest numbers as zero: processors take many times longer for them."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def keep_freed_memory() -> None:
    """Let glibc's allocator keep large buffers between steps; no effect with other C libraries.

    Training on a CPU allocates hundreds of megabytes a step; page faults took a third of the time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
