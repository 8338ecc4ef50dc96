"""From low-resolution logits to a mask at the source's resolution, inside its box only.

SAM resizes twice: logits to the padded square, whose valid part is cropped, then to the source
(segment-anything, `Sam.postprocess_masks`; bilinear, half-pixel centres, no antialiasing). Both
steps are linear and separable, so their product is one small matrix for rows and one for columns,
made once per image size. A mask then costs two matrix products of its own size.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.masks.encoding import Box, tight_box
from aopsam_ros.masks.selection import MASK_THRESHOLD
from aopsam_ros.preprocessing import FrameGeometry
from aopsam_ros.products import matmul

# Source pixels along one axis that are made at a time. They need few low-resolution pixels, so the
# products are small, and a huge mask needs no huge array of floats.
_TILE = 64


class Upscaler:
    """Upscales masks of one frame geometry; the matrices are shared between frames."""

    def __init__(self, geometry: FrameGeometry, low_size: int) -> None:
        """Prepare for logits of `low_size` x `low_size` over the padded square."""
        square = geometry.image_size
        self._rows = _weights(geometry.height, geometry.valid_height, square, low_size)
        self._columns = _weights(geometry.width, geometry.valid_width, square, low_size)

    def __call__(self, logits: NDArray[np.float32]) -> tuple[Box, NDArray[np.bool_]]:
        """Return the tight box (x, y, w, h) in source pixels and the mask inside it, bool `[h, w]`.

        Args:
            logits: float32 `[M, M]`.
        """
        positive = logits > MASK_THRESHOLD
        top, bottom = self._rows.reach(positive, other=1)
        left, right = self._columns.reach(positive, other=0)
        region = self._region(logits, (top, bottom), (left, right))
        x, y, w, h = tight_box(region)
        return (left + x, top + y, w, h) if w else (0, 0, 0, 0), region[y : y + h, x : x + w]

    def _region(
        self, logits: NDArray[np.float32], rows: tuple[int, int], columns: tuple[int, int]
    ) -> NDArray[np.bool_]:
        """Upscale source rows and columns [first, last) and threshold them."""
        height, width = rows[1] - rows[0], columns[1] - columns[0]
        needed = self._rows.low_pixels(*rows)
        wide = np.zeros((needed.stop - needed.start, width), np.float32)
        for at, weights, low in self._columns.tiles(*columns):
            wide[:, at] = matmul(logits[needed, low], weights.T)
        region = np.zeros((height, width), np.bool_)
        for at, weights, low in self._rows.tiles(*rows):
            near = wide[low.start - needed.start : low.stop - needed.start]
            np.greater(matmul(weights, near), MASK_THRESHOLD, out=region[at])
        return region


class _Weights:
    """One axis: source pixel i is the sum of `matrix[i, j]` times low-resolution pixel j."""

    def __init__(self, matrix: NDArray[np.float32]) -> None:
        self.matrix = matrix
        used = matrix > 0
        self.first = used.argmax(axis=1)
        self.last = matrix.shape[1] - used[:, ::-1].argmax(axis=1)

    def reach(self, positive: NDArray[np.bool_], other: int) -> tuple[int, int]:
        """Return the source pixels [first, last) that positive low-resolution pixels reach.

        Args:
            positive: `[M, M]`.
            other: the axis that is not this one.
        """
        low = np.flatnonzero(positive.any(axis=other))
        if low.size == 0:
            return 0, 0
        reached = np.flatnonzero((self.first <= low[-1]) & (self.last > low[0]))
        return (int(reached[0]), int(reached[-1]) + 1) if reached.size else (0, 0)

    def low_pixels(self, first: int, last: int) -> slice:
        """Return the low-resolution pixels that source pixels [first, last) need."""
        if first >= last:
            return slice(0, 0)
        return slice(int(self.first[first]), int(self.last[last - 1]))

    def tiles(self, first: int, last: int) -> Iterator[tuple[slice, NDArray[np.float32], slice]]:
        """Cut source pixels [first, last) into tiles.

        Yields:
            where the tile lies from `first` on, its weights, and the low pixels they belong to.
        """
        for start in range(first, last, _TILE):
            end = min(start + _TILE, last)
            low = self.low_pixels(start, end)
            yield slice(start - first, end - first), self.matrix[start:end, low], low


@functools.lru_cache(maxsize=16)
def _weights(source: int, valid: int, square: int, low: int) -> _Weights:
    """Compose both of SAM's resizes along one axis, float32 `[source, low]`."""
    to_square = _bilinear(square, low)[:valid]
    at, following, share = _taps(source, valid)
    matrix = to_square[at] * (1.0 - share[:, None]) + to_square[following] * share[:, None]
    return _Weights(matrix.astype(np.float32))


def _bilinear(output: int, inputs: int) -> NDArray[np.float64]:
    """Return the matrix of a bilinear resize along one axis, `[output, inputs]`."""
    at, following, share = _taps(output, inputs)
    matrix = np.zeros((output, inputs))
    np.add.at(matrix, (np.arange(output), at), 1.0 - share)
    np.add.at(matrix, (np.arange(output), following), share)
    return matrix


def _taps(
    output: int, inputs: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return the two input pixels of each output pixel and the second one's share."""
    position = np.maximum((np.arange(output) + 0.5) * (inputs / output) - 0.5, 0.0)
    at = np.minimum(position.astype(np.int64), inputs - 1)
    following = np.minimum(at + 1, inputs - 1)
    return at, following, position - at
