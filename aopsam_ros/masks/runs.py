"""Masks that are known by the runs of pixels in their rows, encoded without making the pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.masks.rle import Box, EncodedMask


@dataclass(frozen=True)
class Runs:
    """Runs of pixels of some masks, mask after mask, row after row, from left to right.

    Arrays are int64 `[n]`: `start` is a run's first pixel in its row and `end` the one behind its
    last; a run that does not end behind its start counts for nothing. In a row a run may begin
    where the one before it ends. `bounds` int64 `[masks + 1]` tells where each mask's runs begin.
    """

    row: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    bounds: NDArray[np.int64]

    def without_empty(self) -> Runs:
        """Return the runs that have a pixel."""
        some = self.end > self.start
        before = np.concatenate(([0], np.cumsum(some)))
        return Runs(self.row[some], self.start[some], self.end[some], before[self.bounds])


def encode_runs(runs: Runs) -> list[EncodedMask]:
    """Encode masks; one without a pixel gets the box (0, 0, 0, 0) and no runs."""
    found = runs.without_empty()
    masks = np.flatnonzero(np.diff(found.bounds))
    encoded = [EncodedMask((0, 0, 0, 0), 0, np.zeros(0, np.uint32))] * (len(runs.bounds) - 1)
    if len(masks) == 0:
        return encoded
    first = found.bounds[masks]
    boxes = _boxes(found, first, found.bounds[masks + 1] - 1)
    areas = np.add.reduceat(found.end - found.start, first).tolist()
    counts = _counts(found, first, boxes)
    for mask, box, area, runs_of_it in zip(masks, boxes.tolist(), areas, counts, strict=True):
        encoded[mask] = EncodedMask(_box(box), area, runs_of_it)
    return encoded


def _boxes(runs: Runs, first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return x, y, w, h of each mask, `[masks, 4]`, given its first and its last run."""
    x, right = np.minimum.reduceat(runs.start, first), np.maximum.reduceat(runs.end, first)
    y, bottom = runs.row[first], runs.row[last] + 1
    return np.stack((x, y, right - x, bottom - y), axis=1)


def _box(values: list[int]) -> Box:
    x, y, w, h = values
    return x, y, w, h


def _counts(
    runs: Runs, first: NDArray[np.int64], boxes: NDArray[np.int64]
) -> list[NDArray[np.uint32]]:
    """Return each mask's run lengths inside its box."""
    bounds = np.append(first, len(runs.row))
    of_each = np.diff(bounds)
    x, y, w, h = boxes.T
    row_start = runs.row * np.repeat(w, of_each) - np.repeat(y * w + x, of_each)
    start, end = row_start + runs.start, row_start + runs.end
    # Where a row's last run meets the next row's first at the box's sides, they are one.
    opens = np.append(True, start[1:] > end[:-1])
    opens[first] = True
    opening = np.flatnonzero(opens)
    closing = np.append(opening[1:], len(start)) - 1
    # Behind each mask's runs comes an empty one, at its box's end.
    behind = np.searchsorted(opening, bounds[1:])
    start = np.insert(start.take(opening), behind, w * h)
    end = np.insert(end.take(closing), behind, w * h)
    last = behind + np.arange(len(behind))
    begin = np.append(0, last[:-1] + 1)
    before = np.append(0, end[:-1])
    before[begin] = 0
    pairs = np.stack((start - before, end - start), axis=1).astype(np.uint32)
    rest = pairs[last, 0] > 0
    # Copies: a mask that is kept for long must not keep all others.
    return [
        pairs.ravel()[2 * a : 2 * b + more].copy()
        for a, b, more in zip(begin.tolist(), last.tolist(), rest.tolist(), strict=True)
    ]
