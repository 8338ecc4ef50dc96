"""IoU between the masks of two frames, on a coarse grid of sample points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.segmentation import InstanceMask

SAMPLES = 96  # along the longer side of the image


class SampleGrid:
    """Points at which masks of images of one size are compared: the cost knows no resolution."""

    def __init__(self, height: int, width: int) -> None:
        """Lay the grid over an image of `height` x `width` pixels."""
        self.height, self.width = height, width
        self.step = max(1.0, max(height, width) / SAMPLES)
        self.y = ((np.arange(int(height / self.step)) + 0.5) * self.step).astype(np.int64)
        self.x = ((np.arange(int(width / self.step)) + 0.5) * self.step).astype(np.int64)

    def sample(
        self, mask: InstanceMask, shift: tuple[float, float] = (0.0, 0.0)
    ) -> NDArray[np.bool_]:
        """Read a mask at all points after moving it by `shift` (x, y in pixels), bool `[points]`.

        A mask that falls between the points is there at the one nearest to its middle, so that
        small objects are not lost.
        """
        grid = np.zeros((len(self.y), len(self.x)), np.bool_)
        left, top, width, height = mask.bbox
        rows = self.y - round(shift[1]) - top
        columns = self.x - round(shift[0]) - left
        at_rows = np.flatnonzero((rows >= 0) & (rows < height))
        at_columns = np.flatnonzero((columns >= 0) & (columns < width))
        if len(at_rows) and len(at_columns):
            crop = mask.crop()
            grid[np.ix_(at_rows, at_columns)] = crop[np.ix_(rows[at_rows], columns[at_columns])]
        if not grid.any():
            middle = (top + height / 2 + shift[1], left + width / 2 + shift[0])
            grid[self._nearest(self.y, middle[0]), self._nearest(self.x, middle[1])] = True
        return grid.ravel()

    @staticmethod
    def _nearest(points: NDArray[np.int64], value: float) -> int:
        return int(np.abs(points - value).argmin())


def iou_table(
    first: Sequence[NDArray[np.bool_]], second: Sequence[NDArray[np.bool_]]
) -> NDArray[np.float32]:
    """IoU of every pair of sampled masks, float32 `[first, second]`."""
    if not first or not second:
        return np.zeros((len(first), len(second)), np.float32)
    a, b = np.stack(first).astype(np.float32), np.stack(second).astype(np.float32)
    both = a @ b.T
    return np.asarray(both / (a.sum(1)[:, None] + b.sum(1)[None] - both), np.float32)
