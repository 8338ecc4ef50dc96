"""The training process: batches from a process of their own, and memory that is kept."""

import atexit
import ctypes
import itertools
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aopsam_ros.errors import AopsamError, DatasetError, InputError, OptionError
from aopsam_ros.training.loop import processes

Sample = tuple[NDArray[Any], ...]  # one row of each tensor of a batch
Batch = TypeVar("Batch")
Drawn = TypeVar("Drawn")

_LOGGER = logging.getLogger(__name__)
_MOST_BROKEN = 100  # draws in a row
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # names of glibc's mallopt parameters


class EndlessBatches(torch.utils.data.IterableDataset):
    """Endless random batches, the same ones for the same seed.

    Of several processes, each yields its part of every batch: together they see what one would.

    Args:
        counts: images of each data set, times its weight.
        batch_size: samples, of all processes together.
        seed: of all that is drawn.

    Raises:
        OptionError: if the batches cannot be divided among the processes.
    """

    make: Callable[..., Any]  # makes a batch of its tensors

    def __init__(self, counts: Sequence[float], batch_size: int, seed: int) -> None:
        self.batch_size, self.seed = batch_size, seed
        self._shares = np.array(counts, np.float64) / sum(counts)
        self._first, self._step = processes.rank(), processes.count()
        if batch_size % self._step:
            raise OptionError(
                f"a batch of {batch_size} cannot be divided among {self._step} processes"
            )

    def __iter__(self) -> Iterator[Any]:
        cv2.setNumThreads(1)
        places = range(1 + self._first, 1 + self.batch_size, self._step)
        loader = torch.utils.data.get_worker_info()
        first, step = (loader.id, loader.num_workers) if loader else (0, 1)
        for number in itertools.count(first, step):  # loaders are read in turns
            whole = np.random.default_rng([self.seed, number])
            yield self.batch(whole, [np.random.default_rng([self.seed, number, i]) for i in places])

    def pick_set(self, rng: np.random.Generator) -> int:
        """Draw the number of a data set."""
        return int(rng.choice(len(self._shares), p=self._shares))

    def sample(self, source: int, rng: np.random.Generator) -> Sample:
        """Draw a sample of the data set of that number."""
        raise NotImplementedError

    def batch(
        self,
        whole: np.random.Generator,  # noqa: ARG002
        each: list[np.random.Generator],
    ) -> object:
        """Draw a batch, or a part of it: `whole` is the same for all parts, `each` for a sample."""
        return self.make(*stack_samples(self.sample(self.pick_set(rng), rng) for rng in each))


def stack_samples(samples: Iterable[Sample]) -> Iterator[Tensor]:
    """Make a batch's tensors of samples that have one row of each."""
    return (torch.from_numpy(np.stack(column)) for column in zip(*samples, strict=True))


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Move a batch, a dataclass of tensors or None, to a device."""
    parts = vars(batch).values()
    return type(batch)(*(None if part is None else part.to(device) for part in parts))


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
        worker_init_fn=_end_at_once,
    )  # fmt: skip
    try:
        yield from loader
    except AopsamError as error:
        # torch puts the worker's whole traceback before the message.
        last = str(error).strip().splitlines()[-1]
        raise type(error)(last.partition(": ")[2] or last) from error


def _end_at_once(_: int) -> None:
    """Let a loader's process end without clearing Python away.

    A thread of it may be in torch's code to hand a batch over, and would abort the process.
    """
    atexit.register(os._exit, 0)


def keep_step_memory() -> None:
    """Let glibc's allocator keep large buffers between steps; no effect with other C libraries.

    Training on a CPU allocates hundreds of megabytes a step; page faults took a third of the time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
