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

from aopsam_ros.geometry import FrameGeometry
from aopsam_ros.masks.mesh import mesh_axis
from aopsam_ros.masks.outline import Cells, cut_cells
from aopsam_ros.masks.rle import Box, EncodedMask, decode
from aopsam_ros.masks.runs import Runs, encode_runs

# Masks whose outlines are followed at once: fewer cost calls. More cost memory, which comes from
# the kernel a page at a time where it is not kept: the raggedest masks then take longer.
_AT_ONCE = 16


class Upscaler:
    """Upscales masks of one frame geometry; the mesh is shared between frames.

    A pixel belongs to a mask where its logit is above zero (`MASK_THRESHOLD`).
    """

    def __init__(self, geometry: FrameGeometry, low_size: int) -> None:
        """Prepare for logits of `low_size` x `low_size` over the padded square."""
        square = geometry.image_size
        self._height = geometry.height
        self._stride = geometry.width + 1
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
        cells = cut_cells(logits, self._down, self._across)
        return encode_runs(self._runs(cells, len(logits)))

    def _runs(self, cells: Cells, masks: int) -> Runs:
        """Find the runs of pixels above zero in each row of the source, of so many masks."""
        lines = self._lines(cells)
        inside, inside_behind = lines.left > 0.0, lines.right > 0.0
        enters = lines.take(np.flatnonzero(inside_behind > inside))
        leaves = lines.take(np.flatnonzero(inside > inside_behind))
        # A pixel on the crossing itself is not above zero.
        starts = self._flat(cells, enters, np.floor(self._crossing(cells, enters)) + 1)
        ends = self._flat(cells, leaves, np.ceil(self._crossing(cells, leaves)))
        line = starts // self._stride
        before = line * self._stride
        bounds = np.searchsorted(line, np.arange(masks + 1) * self._height)
        return Runs(line % self._height, starts - before, ends - before, bounds)

    def _lines(self, cells: Cells) -> _Lines:
        """Follow every row of the source through the cells that it crosses."""
        cell, y = self._down.pixels_in(cells.row)
        share = self._down.share.take(y)
        # In 64 bits no product vanishes: what is inside stays inside.
        corners = cells.corners.astype(np.float64).take(cell, axis=1)
        above, below = corners.reshape(2, 2, -1)
        below *= share
        above *= 1.0 - share
        above += below
        left, right = above
        return _Lines(cell, y, left, right)

    def _crossing(self, cells: Cells, lines: _Lines) -> NDArray[np.float64]:
        """Return where logits of different sign on a line's sides cross zero, source pixels."""
        column = cells.column.take(lines.cell)
        before = self._across.position.take(column)
        way = self._across.position.take(column + 1) - before
        way *= lines.left / (lines.left - lines.right)
        return before + way

    def _flat(self, cells: Cells, lines: _Lines, pixel: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return pixels of some lines, counted over all rows of all masks, in order.

        In a row starts and ends of runs take turns: sorted by themselves they still belong
        together. A row has one pixel more than the source, for the end of a run at its side.
        """
        row = cells.mask.take(lines.cell) * self._height + lines.y
        flat = row * self._stride + pixel.astype(np.int64)
        flat.sort()
        return flat


@dataclass(frozen=True)
class _Lines:
    """Rows of the source as far as cells go: the cell's number, the row, logits at both sides."""

    cell: NDArray[np.int64]
    y: NDArray[np.int64]
    left: NDArray[np.float64]
    right: NDArray[np.float64]

    def take(self, which: NDArray[np.int64]) -> _Lines:
        return _Lines(
            self.cell.take(which), self.y.take(which), self.left.take(which), self.right.take(which)
        )
