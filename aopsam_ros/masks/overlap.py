"""IoU between the masks of two frames, on a coarse grid of sample points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.masks.rle import decode
from aopsam_ros.results import InstanceMask

SAMPLES = 96  # along the longer side of the image
Shift = tuple[float, float]  # x and y in pixels


class SampleGrid(NamedTuple):
    """Rows and columns at which masks of images of one size are read, whatever that size."""

    y: NDArray[np.int64]
    x: NDArray[np.int64]

    @classmethod
    def over(cls, height: int, width: int, samples: int = SAMPLES) -> SampleGrid:
        """Lay an even grid over an image, with so many points along its longer side."""
        step = max(1.0, max(height, width) / samples)
        y, x = (_even_places(side, max(1, int(side / step))) for side in (height, width))
        return cls(y, x)

    def sample(self, mask: InstanceMask, shift: Shift = (0.0, 0.0)) -> NDArray[np.bool_]:
        """Read a mask at all points after moving it by `shift`, bool `[points]`.

        A mask that falls between the points is there at the one nearest to its centre, so that
        small objects are not lost.
        """
        grid = np.zeros((len(self.y), len(self.x)), np.bool_)
        left, top, width, height = mask.bbox
        rows = self.y - round(shift[1]) - top
        columns = self.x - round(shift[0]) - left
        at_rows = np.flatnonzero((rows >= 0) & (rows < height))
        at_columns = np.flatnonzero((columns >= 0) & (columns < width))
        if len(at_rows) and len(at_columns):
            crop = decode(mask)
            grid[np.ix_(at_rows, at_columns)] = crop[np.ix_(rows[at_rows], columns[at_columns])]
        if not grid.any():
            y, x = top + height / 2 + shift[1], left + width / 2 + shift[0]
            grid[np.abs(self.y - y).argmin(), np.abs(self.x - x).argmin()] = True
        return grid.ravel()

    def shown(self, shift: Shift, height: int, width: int) -> NDArray[np.bool_]:
        """Return which points an image of that size covers after it moved, bool `[points]`."""
        rows, columns = self.y - round(shift[1]), self.x - round(shift[0])
        down = (rows >= 0) & (rows < height)
        across = (columns >= 0) & (columns < width)
        return np.asarray((down[:, None] & across).ravel(), np.bool_)

    def centroid(self, sampled: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the centroid of a sampled mask, x and y in pixels."""
        rows, columns = np.nonzero(sampled.reshape(len(self.y), len(self.x)))
        return np.array([self.x[columns].mean(), self.y[rows].mean()])


def _even_places(side: int, count: int) -> NDArray[np.int64]:
    """Return the pixels in the middle of `count` equal parts of a side."""
    return ((np.arange(count) + 0.5) * (side / count)).astype(np.int64)


def iou_table(
    first: Sequence[NDArray[np.bool_]],
    second: Sequence[NDArray[np.bool_]],
    known: Sequence[NDArray[np.bool_]],
) -> NDArray[np.float32]:
    """IoU of every pair of sampled masks, bool `[points]` each: float32 `[first, second]`.

    `known` has the points that the frame of each mask of `second` showed; others do not count.
    """
    if not first or not second:
        return np.zeros((len(first), len(second)), np.float32)
    a, b = np.stack(first).astype(np.float32), np.stack(second).astype(np.float32)
    both = a @ b.T
    either = a @ np.stack(known).astype(np.float32).T + b.sum(1)[None] - both
    return np.asarray(both / np.maximum(either, 1.0), np.float32)
