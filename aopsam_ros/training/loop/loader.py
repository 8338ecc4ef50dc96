"""The training process: batches from a process of their own, and memory that is kept."""

import contextlib
import ctypes
import itertools
import logging
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import cv2
import numpy as np
import torch

from aopsam_ros.errors import AopsamError, DatasetError, InputError, OptionError
from aopsam_ros.training.loop import processes

Batch = TypeVar("Batch")
Drawn = TypeVar("Drawn")

_LOGGER = logging.getLogger(__name__)
_MOST_BROKEN = 100  # draws in a row
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # names of glibc's mallopt parameters


class EndlessBatches(torch.utils.data.IterableDataset, Generic[Batch]):
    """Endless random batches, the same ones for the same seed.

    Of several processes, each yields its part of every batch: together they see what one would.

    Raises:
        OptionError: if the batches cannot be divided among the processes.
    """

    def __init__(self, batch_size: int, seed: int) -> None:
        self.batch_size, self.seed = batch_size, seed
        self._first, self._step = processes.rank(), processes.count()
        if batch_size % self._step:
            raise OptionError(
                f"a batch of {batch_size} cannot be divided among {self._step} processes"
            )

    def __iter__(self) -> Iterator[Batch]:
        cv2.setNumThreads(1)
        places = range(1 + self._first, 1 + self.batch_size, self._step)
        loader = torch.utils.data.get_worker_info()
        first, step = (loader.id, loader.num_workers) if loader else (0, 1)
        for number in itertools.count(first, step):  # loaders are read in turns
            whole = np.random.default_rng([self.seed, number])
            yield self.batch(whole, [np.random.default_rng([self.seed, number, i]) for i in places])

    def batch(self, whole: np.random.Generator, each: list[np.random.Generator]) -> Batch:
        """Draw a batch, or a part of it.

        Args:
            whole: randomness that all parts of the batch share.
            each: randomness of each of its samples.
        """
        raise NotImplementedError


def readable(draw: Callable[[], Drawn]) -> Drawn:
    """Draw at random until what was drawn can be read: one broken file must not end a long run.

    Raises:
        InputError: what the last of many draws in a row said.
    """
    for _ in range(_MOST_BROKEN - 1):
        try:
            return draw()
        except (DatasetError, InputError) as error:
            _LOGGER.warning("left out: %s", error)
    return draw()


def endless_batches(batches: torch.utils.data.IterableDataset, loaders: int = 1) -> Iterator[Any]:
    """Yield the batches of an endless data set, a few prepared ahead in other processes.

    Their number, `loaders`, does not change the batches.

    Raises:
        AopsamError: of the data set, with its own message.
    """
    # Spawned: a fork of a process that has threads, as of OpenMP, can wait for their locks forever.
    loader: torch.utils.data.DataLoader = torch.utils.data.DataLoader(
        batches,
        batch_size=None,
        num_workers=loaders,
        prefetch_factor=4,
        multiprocessing_context="spawn",
    )  # fmt: skip
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
