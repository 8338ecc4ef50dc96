"""From low-resolution logits to masks' run lengths at the source's resolution.

SAM resizes twice: logits to the padded square, whose valid part is cropped, then to the source
(segment-anything, `Sam.postprocess_masks`; bilinear, half-pixel centres, no antialiasing). Both
steps are linear and separable. So the source's logits are a bilinear surface over a mesh that is
the same for every mask: along a row they are a line that bends at the mesh's columns only, and a
run of the mask begins and ends where that line crosses zero. Pixels are never made: a mask's time
depends on the mesh and on its outline, not on its area.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.masks.encoding import Box, EncodedMask, decode
from aopsam_ros.masks.mesh import mesh_axis
from aopsam_ros.masks.runs import Runs, encode_runs
from aopsam_ros.preprocessing import FrameGeometry

# Masks whose outlines are followed at once. More would save calls, but not time: arrays of
# megabytes come from the kernel and cost it a page at a time.
_AT_ONCE = 8


class Upscaler:
    """Upscales masks of one frame geometry; the mesh is shared between frames.

    A pixel belongs to a mask where its logit is above zero (`MASK_THRESHOLD`).
    """

    def __init__(self, geometry: FrameGeometry, low_size: int) -> None:
        """Prepare for logits of `low_size` x `low_size` over the padded square."""
        square = geometry.image_size
        self._height, self._width = geometry.height, geometry.width
        self._down = mesh_axis(geometry.height, geometry.valid_height, square, low_size)
        self._across = mesh_axis(geometry.width, geometry.valid_width, square, low_size)

    def __call__(self, logits: NDArray[np.float32]) -> list[EncodedMask]:
        """Encode the masks of logits `[n, M, M]`, float32 and finite, each in its tight box."""
        return [
            mask
            for start in range(0, len(logits), _AT_ONCE)
            for mask in self._encode(logits[start : start + _AT_ONCE])
        ]

    def pixels(self, logits: NDArray[np.float32]) -> tuple[Box, NDArray[np.bool_]]:
        """Return the tight box (x, y, w, h) in source pixels and the mask inside it, bool `[h, w]`.

        Args:
            logits: of one mask, `[M, M]`.
        """
        (mask,) = self(logits[None])
        return mask.bbox, decode(mask)

    def _encode(self, logits: NDArray[np.float32]) -> list[EncodedMask]:
        positive = logits > 0.0
        rows = self._down.reach(np.asarray(positive.any(axis=2)))
        columns = self._across.reach(np.asarray(positive.any(axis=1)))
        outlines = map(self._outline, logits, rows, columns)
        return encode_runs(self._runs(_joined(list(outlines)), len(logits)))

    def _outline(self, logits: NDArray[np.float32], rows: slice, columns: slice) -> _Cells:
        """Find the cells of the mesh, between some rows and columns, that a mask's outline cuts."""
        low = self._down.needed(rows)
        across = self._across.interpolate(logits[low], columns, axis=1)
        mesh = self._down.interpolate(across, rows, low.start)
        # Flat, as neither side of the mesh is inside: what a row's end and the next one's begin
        # with are no cell, but they never differ.
        flat, width = mesh.ravel(), max(1, mesh.shape[1])
        inside = flat > 0.0
        beside, below = inside[1:] != inside[:-1], inside[width:] != inside[:-width]
        corner = np.flatnonzero(beside[:-width] | beside[width:] | below[:-1])
        row = corner // width
        return _Cells(
            row=row + rows.start,
            column=corner - row * width + columns.start,
            corners=flat.take(corner + np.array([[0], [1], [width], [width + 1]])),
            mask=np.zeros(len(row), np.int64),
        )

    def _runs(self, cells: _Cells, masks: int) -> Runs:
        """Find the runs of pixels above zero in each row of the source, of so many masks."""
        cell, y = self._down.pixels_in(cells.row)
        top_left, top_right, low_left, low_right = cells.corners.take(cell, axis=1)
        share = self._down.share[y]  # in 64 bits no product vanishes: what is inside stays inside
        left = top_left * (1 - share) + low_left * share
        right = top_right * (1 - share) + low_right * share
        enters = right > 0.0
        changes = np.flatnonzero((left > 0.0) != enters)
        cell, enters = cell[changes], enters[changes]
        crossing = self._crossing(left[changes], right[changes], cells.column[cell])
        # A pixel on the crossing itself is not above zero.
        pixel = np.where(enters, np.floor(crossing) + 1, np.ceil(crossing)).astype(np.int64)
        # In a row starts and ends take turns: sorted by themselves they still belong together.
        stride = self._width + 1
        flat = (cells.mask[cell] * self._height + y[changes]) * stride + pixel
        starts, ends = np.sort(flat[enters]), np.sort(flat[~enters])
        line = starts // stride
        before = line * stride
        bounds = np.searchsorted(line, np.arange(masks + 1) * self._height)
        return Runs(line % self._height, starts - before, ends - before, bounds)

    def _crossing(
        self,
        left: NDArray[np.float64],
        right: NDArray[np.float64],
        column: NDArray[np.int64],
    ) -> NDArray[np.float64]:
        """Return where logits of different sign at a column's corners cross zero, source pixels."""
        before = self._across.position[column]
        way = self._across.position[column + 1] - before
        return before + way * (left / (left - right))


@dataclass(frozen=True)
class _Cells:
    """Cells of the mesh: row, column, logits `[4, n]` at the corners, number of the mask."""

    row: NDArray[np.int64]
    column: NDArray[np.int64]
    corners: NDArray[np.float32]
    mask: NDArray[np.int64]


def _joined(masks: list[_Cells]) -> _Cells:
    """Join the cells of some masks, numbered in their order."""
    return _Cells(
        row=np.concatenate([cells.row for cells in masks]),
        column=np.concatenate([cells.column for cells in masks]),
        corners=np.concatenate([cells.corners for cells in masks], axis=1),
        mask=np.repeat(np.arange(len(masks)), [len(cells.row) for cells in masks]),
    )
