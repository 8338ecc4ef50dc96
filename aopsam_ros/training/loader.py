"""Batches prepared in a process of their own, a few ahead of the training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from aopsam_ros.errors import AopsamError


def endless_batches(batches: torch.utils.data.IterableDataset) -> Iterator[Any]:
    """Yield what an endless data set yields.

    Raises:
        AopsamError: as the data set does, in its own words.
    """
    # Spawned: a fork of a process that has threads, as of OpenMP, can wait for their locks forever.
    loader: torch.utils.data.DataLoader = torch.utils.data.DataLoader(
        batches, batch_size=None, num_workers=1, prefetch_factor=4, multiprocessing_context="spawn"
    )
    try:
        yield from loader
    except AopsamError as error:
        # torch puts the worker's whole traceback before what it says.
        last = str(error).strip().splitlines()[-1]
        raise type(error)(last.partition(": ")[2] or last) from error
