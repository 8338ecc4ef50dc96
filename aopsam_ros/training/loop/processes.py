"""Training as several processes of one run, a GPU each, as torchrun starts them.

Every function also works in a run of one process, and does nothing there.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from aopsam_ros.errors import EngineError

T = TypeVar("T")
_LONGEST_WAIT = timedelta(days=7)  # for another process's embeddings, which may take days


def join() -> None:
    """Become one of a run's processes, if torchrun has started this one; only the first prints.

    Raises:
        EngineError: if there are fewer GPUs than processes, or they cannot reach each other.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or distributed.is_initialized():
        return
    gpus, local = torch.cuda.device_count(), int(os.environ.get("LOCAL_RANK", "0"))
    if gpus and local >= gpus:
        raise EngineError(f"process {local} of this machine has no GPU: there are {gpus}")
    if gpus:
        torch.cuda.set_device(local)
    try:
        distributed.init_process_group("nccl" if gpus else "gloo", timeout=_LONGEST_WAIT)
    except (RuntimeError, ValueError) as error:
        raise EngineError(f"the training's processes cannot meet: {error}") from error
    atexit.register(distributed.destroy_process_group)
    if not is_first():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (until the end)


def count() -> int:
    """Return the number of the run's processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Return this process's number, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def is_first() -> bool:
    """Return whether this process writes the run's files."""
    return rank() == 0


def wait() -> None:
    """Wait until every process is here."""
    if count() > 1:
        distributed.barrier()


def share(items: Sequence[T]) -> Sequence[T]:
    """Return every item that this process is to do, so that all are done once."""
    return items[rank() :: count()]


def average(value: Tensor) -> Tensor:
    """Return the mean over the processes, without its gradient."""
    mean = value.detach().clone()
    if count() > 1:
        distributed.all_reduce(mean)
        mean /= count()
    return mean


def parallel(model: nn.Module, forward: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return `forward`, which calls the model, so that gradients are averaged over the processes.

    Batch norms see the whole batch on GPUs; on a CPU, where torch cannot, each process's part.
    """
    if count() == 1:
        return forward
    if torch.cuda.is_available():
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
    step = _Step(model, forward)
    wrapped: Callable[[Any], Any] = DistributedDataParallel(step, find_unused_parameters=True)
    return wrapped


class _Step(nn.Module):
    """A whole step as a module, which is what torch can wrap."""

    def __init__(self, model: nn.Module, forward: Callable[[Any], Any]) -> None:
        super().__init__()
        self.model, self._forward = model, forward

    def forward(self, batch: object) -> object:
        return self._forward(batch)
