"""One axis of the mesh between whose corners upscaled logits are linear."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray


class MeshAxis:
    """Where the logits along an axis bend, in source pixels, and how they are made there.

    A corner of logit zero stands before the first pixel and one behind the last: no run of pixels
    leaves the image, and what lies between them and their neighbours has its neighbour's sign.

    `position` float64 `[corners]` in source pixels; `share` float64 `[source]` tells how far a
    pixel is from the corner before it to the next: above 0 and up to 1.
    """

    def __init__(self, source: int, valid: int, square: int, low: int) -> None:
        """Make the axis of `source` pixels, which fill the first `valid` pixels of the square."""
        at, following, share = _taps(square, low)
        bends = _bends(at[:valid], share[:valid])
        pixels = (bends + 0.5) * (source / valid) - 0.5
        self.position = np.concatenate(([-0.5], pixels, [source - 0.5]))
        self._first, self._last = np.pad(at[bends], 1, "edge"), np.pad(following[bends], 1, "edge")
        # The corners before the first pixel and behind the last are zero.
        self._of_last = np.pad(share[bends], 1).astype(np.float32)
        self._of_first = np.pad(1.0 - share[bends], 1).astype(np.float32)
        self._needed = list(zip(self._first.tolist(), (self._last + 1).tolist(), strict=True))
        pixel = np.arange(source)
        cell = np.searchsorted(self.position, pixel, side="left") - 1
        before = self.position[cell]
        self.share = (pixel - before) / (self.position[cell + 1] - before)
        # The first pixel behind each corner; a cell without a pixel has the next one's.
        self._begin = np.searchsorted(cell, np.arange(len(self.position)))

    def reach(self, positive: NDArray[np.bool_]) -> list[slice]:
        """Return the corners that positive low-resolution pixels reach, and one on each side.

        Args:
            positive: `[n, M]`, of each mask: which rows, or columns, have a positive pixel.

        Returns:
            of each mask; empty where only the padding is positive, or nothing.
        """
        lowest = positive.argmax(axis=1)
        highest = positive.shape[1] - 1 - positive[:, ::-1].argmax(axis=1)
        first = np.searchsorted(self._last, lowest)
        last = np.searchsorted(self._first, highest, side="right")
        found = (first < last) & positive.any(axis=1)
        start = np.where(found, np.maximum(0, first - 1), 0)
        stop = np.where(found, np.minimum(len(self.position), last + 1), 0)
        return [slice(*ends) for ends in zip(start.tolist(), stop.tolist(), strict=True)]

    def needed(self, corners: slice) -> slice:
        """Return the low-resolution pixels that some corners are made of."""
        if corners.start >= corners.stop:
            return slice(0, 0)
        return slice(self._needed[corners.start][0], self._needed[corners.stop - 1][1])

    def interpolate(
        self, logits: NDArray[np.float32], corners: slice, start: int = 0, axis: int = 0
    ) -> NDArray[np.float32]:
        """Return the logits at some corners: as `logits`, with the corners along `axis`.

        Args:
            logits: float32 matrix, at low resolution along `axis`.
            corners: wanted.
            start: the low-resolution pixel that `logits` begins with.
            axis: 0 or 1.
        """
        shape = (-1, 1) if axis == 0 else (1, -1)
        result = logits.take(self._first[corners] - start, axis=axis)
        result *= self._of_first[corners].reshape(shape)
        last = logits.take(self._last[corners] - start, axis=axis)
        last *= self._of_last[corners].reshape(shape)
        result += last
        return result

    def pixels_in(self, cells: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return every source pixel in some cells, and which of `cells` it lies in.

        Args:
            cells: the corners they begin with, int64 `[n]`.

        Returns:
            index into `cells` and source pixel, one after another.
        """
        begin = self._begin.take(cells)
        counts = self._begin.take(cells + 1) - begin
        which = np.repeat(np.arange(len(cells)), counts)
        before = np.cumsum(counts) - counts  # pixels of the cells that come first
        return which, np.arange(len(which)) + (begin - before).take(which)


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
