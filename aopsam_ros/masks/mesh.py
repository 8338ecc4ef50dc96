"""One axis of the mesh between whose corners upscaled logits are linear."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.products import matmul

# Corners that are made at a time. They need few low-resolution pixels: the products are small.
_TILE = 32


class MeshAxis:
    """Where the logits along an axis bend, in source pixels, and how they are made there.

    A corner of logit zero stands before the first pixel and one behind the last: no run of pixels
    leaves the image, and what lies between them and their neighbours has its neighbour's sign.

    `position` float64 `[corners]` in source pixels; for each source pixel, `cell` int64 is the
    corner before it, and `share` float64, above 0 and up to 1, how far it is on the way to the
    next.
    """

    def __init__(self, source: int, valid: int, square: int, low: int) -> None:
        """Make the axis of `source` pixels, which fill the first `valid` pixels of the square."""
        at, following, share = (taps[:valid] for taps in _taps(square, low))
        bends = _bends(at, share)
        pixels = (bends + 0.5) * (source / valid) - 0.5
        self.position = np.concatenate(([-0.5], pixels, [source - 0.5]))
        corner = np.arange(1, len(bends) + 1)
        self._matrix = np.zeros((len(self.position), low), np.float32)
        self._matrix[corner, at[bends]] = 1.0 - share[bends]
        self._matrix[corner, following[bends]] += share[bends].astype(np.float32)
        self._first, self._last = np.pad(at[bends], 1, "edge"), np.pad(following[bends], 1, "edge")
        pixel = np.arange(source)
        self.cell = np.searchsorted(self.position, pixel, side="left") - 1
        before = self.position[self.cell]
        self.share = (pixel - before) / (self.position[self.cell + 1] - before)

    def reach(self, positive: NDArray[np.bool_]) -> slice:
        """Return the corners that positive low-resolution pixels reach, and one on each side.

        Args:
            positive: `[M]`, which rows or columns have a positive pixel.
        """
        low = np.flatnonzero(positive)
        if low.size == 0:
            return slice(0, 0)
        first = int(np.searchsorted(self._last, low[0]))
        last = int(np.searchsorted(self._first, low[-1], side="right"))
        if first >= last:  # positive in the padding only
            return slice(0, 0)
        return slice(max(0, first - 1), min(len(self.position), last + 1))

    def needed(self, corners: slice) -> slice:
        """Return the low-resolution pixels that some corners are made of."""
        if corners.start >= corners.stop:
            return slice(0, 0)
        return slice(int(self._first[corners.start]), int(self._last[corners.stop - 1]) + 1)

    def interpolate(
        self, logits: NDArray[np.float32], corners: slice, start: int = 0
    ) -> NDArray[np.float32]:
        """Return the logits at some corners, float32 `[corners, n]`.

        Args:
            logits: `[pixels, n]` at low resolution along this axis.
            corners: wanted.
            start: the low-resolution pixel that `logits` begins with.
        """
        result = np.empty((corners.stop - corners.start, logits.shape[1]), np.float32)
        for begin in range(corners.start, corners.stop, _TILE):
            tile = slice(begin, min(begin + _TILE, corners.stop))
            low = self.needed(tile)
            near = logits[low.start - start : low.stop - start]
            matmul(self._matrix[tile, low], near, result[begin - corners.start :][:_TILE])
        return result

    def between(self, corners: slice) -> tuple[int, int]:
        """Return the source pixels [first, last) between the first and the last of some corners."""
        first, last = np.searchsorted(self.cell, (corners.start, corners.stop - 1))
        return int(first), int(max(first, last))


mesh_axis = functools.lru_cache(maxsize=16)(MeshAxis)


def _bends(at: NDArray[np.int64], share: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the square's pixels where the line through all of them may bend, and both ends.

    It does not where a pixel and its two neighbours lie evenly between the same low-resolution
    pixels.
    """
    same = (at[:-2] == at[1:-1]) & (at[1:-1] == at[2:])
    straight = same & np.isclose(np.diff(share, 2), 0.0)
    bent = np.ones(len(at), np.bool_)
    bent[1:-1] = ~straight
    return np.flatnonzero(bent)


def _taps(
    output: int, inputs: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return a resize's two input pixels of each output pixel and the second one's share."""
    position = np.maximum((np.arange(output) + 0.5) * (inputs / output) - 0.5, 0.0)
    at = np.minimum(position.astype(np.int64), inputs - 1)
    following = np.minimum(at + 1, inputs - 1)
    return at, following, position - at
