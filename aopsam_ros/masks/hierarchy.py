"""Which mask lies in which: parents, levels, and the masks of one granularity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.masks.selection import count_pixels
from aopsam_ros.masks.suppression import count_shared, pack
from aopsam_ros.results import InstanceMask

CONTAINED = 0.9  # share of a mask that lies in its parent
NO_PARENT = -1


class Hierarchy(NamedTuple):
    """The tree of n masks.

    `holders`: indices of the masks that hold each one, the smallest first; `parent` int64 `[n]`:
    the first of these, -1 where there are none; `level` int64 `[n]`: 0 for the outermost, one more
    than the parent's for the others.
    """

    holders: Sequence[Sequence[int]]
    parent: NDArray[np.int64]
    level: NDArray[np.int64]

    def of_granularity(self, granularity: str) -> NDArray[np.int64]:
        """Return the indices of the `objects` (outermost), `parts` (innermost), or `all`."""
        every = np.arange(len(self.parent))
        if granularity == "objects":
            return np.flatnonzero(self.parent == NO_PARENT)
        if granularity == "parts":
            return np.setdiff1d(every, [holder for own in self.holders for holder in own])
        return every

    def take(self, rows: NDArray[np.int64]) -> Hierarchy:
        """Return the tree of the masks at `rows`, in that order: the others hold nothing."""
        place = {row: index for index, row in enumerate(rows.tolist())}
        return hierarchy_of([[place[n] for n in self.holders[row] if n in place] for row in place])


def linked(masks: Sequence[InstanceMask], tree: Hierarchy) -> tuple[InstanceMask, ...]:
    """Return masks numbered from 1, each with its parent and level in their tree."""
    parents, levels = tree.parent.tolist(), tree.level.tolist()
    return tuple(
        replace(mask, id=index, parent=parent + 1, level=level)
        for index, (mask, parent, level) in enumerate(zip(masks, parents, levels, strict=True), 1)
    )


def find_hierarchy(masks: NDArray[np.bool_]) -> Hierarchy:
    """Return the tree of masks `[n, rows, columns]` at low resolution.

    A mask holds another one that lies in it with nine tenths. Of masks that contain each other, the
    larger one is the holder; of equally large ones the first. A mask without a pixel has none.
    """
    words, area = pack(masks), count_pixels(masks)
    holders: list[list[int]] = [[] for _ in masks]
    order = np.argsort(-area, kind="stable")
    for rank, index in enumerate(order):
        larger = order[:rank]
        shared = count_shared(words, index, larger)
        outer = larger[(shared >= CONTAINED * area[index]) & (area[index] > 0)]
        holders[index] = outer[::-1].tolist()
    return hierarchy_of(holders)


def hierarchy_of(holders: Sequence[Sequence[int]]) -> Hierarchy:
    """Return the tree of masks, each inside the first of the masks that hold it."""
    parent = np.array([next(iter(own), NO_PARENT) for own in holders], np.int64)
    level = np.zeros(len(parent), np.int64)
    for index in range(len(parent)):
        above = parent[index]
        while above != NO_PARENT:
            level[index], above = level[index] + 1, parent[above]
    return Hierarchy(holders, parent, level)
