"""The encoder's features as ASF filtering and clustering compare them: unit length, no padding."""

import math

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.geometry import FrameGeometry

# OpenBLAS stays in one thread up to 2^18 multiplications. Beyond, it wakes a second one and waits
# for it: a few microseconds of work then take a scheduler's time slice, tens of milliseconds, when
# an engine's threads spin on that core.
_ONE_THREAD = 200_000


class FeatureMap:
    """The unit-length feature of every embedding pixel that shows the image."""

    def __init__(
        self, embedding: NDArray[np.float32], geometry: FrameGeometry, channels: int
    ) -> None:
        """Normalise the first `channels` of an embedding `[1, C, S', S']`, padding left out."""
        self.size = embedding.shape[-1]
        self.geometry = geometry
        self.rows, self.columns = geometry.valid_cells(self.size)
        valid = embedding[0, :channels, : self.rows, : self.columns]
        self.unit = unit_length(valid.reshape(len(valid), -1).T)

    def nearest(self, points: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the pixel nearest to each source point `[n, 2]`, as flat index `[n]`."""
        cells = np.rint(self.geometry.to_cells(points, self.size)).astype(np.int64)
        x = np.clip(cells[:, 0], 0, self.columns - 1)
        y = np.clip(cells[:, 1], 0, self.rows - 1)
        return y * self.columns + x

    def pool(
        self, masks: NDArray[np.bool_], points: NDArray[np.float64], low_size: int
    ) -> NDArray[np.float32]:
        """Average the features inside each mask and give the means unit length.

        A feature pixel is inside when the mask covers half of it or more; a mask that is nowhere
        so large takes the pixel nearest to its prompt, `points` in source pixels `[n, 2]`. Masks
        are bool `[n, rows, columns]`, the part that shows the image, of a square of side
        `low_size`.
        """
        ratio = low_size / self.size
        down = _overlap(self.rows, masks.shape[1], ratio)
        across = _overlap(self.columns, masks.shape[2], ratio)
        share = down @ masks.astype(np.float32) @ across.T
        inside = (share >= 0.5).reshape(len(masks), -1)
        small = np.flatnonzero(~inside.any(axis=1))
        inside[small, self.nearest(points[small])] = True
        return unit_length(single_thread_matmul(inside.astype(np.float32), self.unit))

    def pooled(self, factor: int) -> tuple[NDArray[np.float32], int]:
        """Average the features over blocks of `factor` x `factor` pixels.

        A block that the image's edge cuts is averaged over the part that is there.

        Returns:
            unit vectors, float32 `[cells, channels]`, row by row, and how many cells a row has.
        """
        rows, columns = -(-self.rows // factor), -(-self.columns // factor)
        down = _overlap(rows, self.rows, factor)
        across = _overlap(columns, self.columns, factor)
        grid = self.unit.reshape(self.rows, self.columns, -1)
        blocks = np.einsum("ij,jkc,lk->ilc", down, grid, across, optimize=True)
        return unit_length(blocks.reshape(rows * columns, -1)), columns

    def at(self, points: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return the unit feature at source points `[n, 2]`, bilinearly, `[n, channels]`."""
        return unit_length(self.lookup(np.ascontiguousarray(self.unit.T), points).T)

    def lookup(self, maps: NDArray[np.float32], points: NDArray[np.float64]) -> NDArray[np.float32]:
        """Read maps `[..., rows * columns]` at source points `[n, 2]`, bilinearly: `[..., n]`."""
        cells = self.geometry.to_cells(points, self.size)
        x, x1, fx = _neighbours(cells[:, 0], self.columns)
        y, y1, fy = _neighbours(cells[:, 1], self.rows)
        w = self.columns
        above = maps[..., y * w + x] * (1 - fx) + maps[..., y * w + x1] * fx
        below = maps[..., y1 * w + x] * (1 - fx) + maps[..., y1 * w + x1] * fx
        return np.asarray(above * (1 - fy) + below * fy, np.float32)


def attention_features(attention: NDArray[np.float32], geometry: FrameGeometry) -> FeatureMap:
    """Take what a cell attends to as its feature, as Efficient SAM2 does; padding is left out.

    Attention is `[1, N, N]` from each to each of N cells of the square, row by row.
    """
    side = math.isqrt(attention.shape[-1])
    rows, columns = geometry.valid_cells(side)
    shown = attention[0].reshape(-1, side, side)[:, :rows, :columns].reshape(side, side, -1)
    return FeatureMap(shown.transpose(2, 0, 1)[None], geometry, rows * columns)


def single_thread_matmul(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Multiply `[m, k]` by `[k, n]` in blocks of a few columns; m times k should be small."""
    rows, columns = len(a), b.shape[1]
    product = np.empty((rows, columns), np.float32)
    step = max(16, _ONE_THREAD // max(1, a.size))
    for left in range(0, columns, step):
        np.matmul(a, b[:, left : left + step], out=product[:, left : left + step])
    return product


def unit_length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give each row of `[n, channels]` unit length; a zero row stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.ascontiguousarray(vectors / np.maximum(lengths, 1e-12), np.float32)


def _overlap(cells: int, pixels: int, ratio: float) -> NDArray[np.float32]:
    """Return the share of each cell of `ratio` pixels that each pixel fills, `[cells, pixels]`.

    A cell cut by the image's edge is measured by the part that is there.
    """
    start = np.arange(cells)[:, None] * ratio
    pixel = np.arange(pixels)[None, :]
    shared = np.minimum(start + ratio, pixel + 1) - np.maximum(start, pixel)
    shared = np.maximum(shared, 0.0)
    return np.asarray(shared / np.maximum(shared.sum(1, keepdims=True), 1e-12), np.float32)


def _neighbours(
    position: NDArray[np.float64], size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return the two pixels around each position, clamped, and the second one's share."""
    inside = np.clip(position, 0.0, size - 1.0)
    at = inside.astype(np.int64)
    return at, np.minimum(at + 1, size - 1), inside - at
