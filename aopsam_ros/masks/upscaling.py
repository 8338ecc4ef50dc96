"""From low-resolution logits to a mask's run lengths at the source's resolution.

SAM resizes twice: logits to the padded square, whose valid part is cropped, then to the source
(segment-anything, `Sam.postprocess_masks`; bilinear, half-pixel centres, no antialiasing). Both
steps are linear and separable. So the source's logits are a bilinear surface over a mesh that is
the same for every mask: along a row they are a line that bends at the mesh's columns only, and a
run of the mask begins and ends where that line crosses zero. Pixels are never made: a mask's time
depends on the mesh and on its outline, not on its area.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.masks.encoding import Box, EncodedMask, decode, encode_runs
from aopsam_ros.masks.mesh import MeshAxis, mesh_axis
from aopsam_ros.preprocessing import FrameGeometry


class Upscaler:
    """Upscales masks of one frame geometry; the mesh is shared between frames.

    A pixel belongs to a mask where its logit is above zero (`MASK_THRESHOLD`).
    """

    def __init__(self, geometry: FrameGeometry, low_size: int) -> None:
        """Prepare for logits of `low_size` x `low_size` over the padded square."""
        square = geometry.image_size
        self._rows = mesh_axis(geometry.height, geometry.valid_height, square, low_size)
        self._columns = mesh_axis(geometry.width, geometry.valid_width, square, low_size)

    def __call__(self, logits: NDArray[np.float32]) -> EncodedMask:
        """Encode the mask of logits `[M, M]`, float32 and finite, in its tight box."""
        positive = logits > 0.0
        rows = self._rows.reach(positive.any(axis=1))
        columns = self._columns.reach(positive.any(axis=0))
        low = self._rows.needed(rows)
        across = self._columns.interpolate(logits[low].T, columns)
        mesh = self._rows.interpolate(across.T, rows, low.start)
        return encode_runs(*_runs(mesh, self._rows, rows, self._columns, columns))

    def pixels(self, logits: NDArray[np.float32]) -> tuple[Box, NDArray[np.bool_]]:
        """Return the tight box (x, y, w, h) in source pixels and the mask inside it, bool `[h, w]`.

        Arguments as for a call.
        """
        mask = self(logits)
        return mask.bbox, decode(mask)


def _runs(
    mesh: NDArray[np.float32], down: MeshAxis, rows: slice, across: MeshAxis, columns: slice
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Find the runs of pixels above zero in each row of the source.

    Args:
        mesh: logits at the mesh's corners, `[rows, columns]`; not above zero at its sides.
        down: the vertical axis.
        rows: its corners that `mesh` has.
        across: the horizontal axis.
        columns: its corners that `mesh` has.

    Returns:
        row, first pixel and the one behind the last of each run, in order; some end before they
        begin.
    """
    y, at, cell = _outline(mesh, down, rows)
    flat, width = mesh.ravel(), mesh.shape[1]
    share = down.share[y]
    left = flat[at] * (1.0 - share) + flat[at + width] * share
    right = flat[at + 1] * (1.0 - share) + flat[at + width + 1] * share
    changes = np.flatnonzero((left > 0.0) != (right > 0.0))
    left, right, cell = left[changes], right[changes], cell[changes]
    position = across.position[columns]
    crossing = position[cell] + (position[cell + 1] - position[cell]) * left / (left - right)
    # A row's crossings alternate. A pixel on the crossing itself is not above zero.
    starts = np.floor(crossing[0::2]).astype(np.int64) + 1
    ends = np.ceil(crossing[1::2]).astype(np.int64)
    return y[changes[0::2]], starts, ends


def _outline(
    mesh: NDArray[np.float32], down: MeshAxis, rows: slice
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Find the cells of the mesh that some rows of the source cross and that the outline may cross.

    Returns:
        row of the source, the cell's upper left corner in the flat mesh, and the cell's column.
    """
    inside = mesh > 0.0
    some, every = inside[:-1] | inside[1:], inside[:-1] & inside[1:]
    mixed = (some[:, :-1] | some[:, 1:]) != (every[:, :-1] & every[:, 1:])
    first, last = down.between(rows)
    cells = down.cell[first:last] - rows.start
    found = np.flatnonzero(mixed[cells])
    row = found // max(1, mixed.shape[1])
    column = found - row * mixed.shape[1]
    return row + first, cells[row] * mesh.shape[1] + column, column
