"""Cells of the mesh that the outlines of masks cut: all that is needed to find their runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.masks.mesh import MeshAxis


@dataclass(frozen=True)
class Cells:
    """Cells of the mesh, those of a mask together, in the order of rows and columns.

    `mask`, `row` and `column` int64 `[n]`; `corners` float32 `[4, n]`: the logits above left, above
    right, below left and below right.
    """

    mask: NDArray[np.int64]
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    corners: NDArray[np.float32]


def cut_cells(logits: NDArray[np.float32], down: MeshAxis, across: MeshAxis) -> Cells:
    """Find the cells whose corners are not all inside a mask, nor all outside.

    Args:
        logits: `[n, M, M]` of a mask at least, float32 and finite; above zero is inside.
        down: the mesh's rows.
        across: its columns.
    """
    positive = logits > 0.0
    rows = down.reach(np.asarray(positive.any(axis=2)))
    columns = across.reach(np.asarray(positive.any(axis=1)))
    heights, widths = _lengths(rows), _lengths(columns)
    ends = np.cumsum(heights * widths)
    # The masks' meshes one behind another: calls for each mask are what takes the time.
    corners = np.empty(ends[-1], np.float32)
    cut = np.zeros(ends[-1], np.bool_)
    begin = 0
    for low, in_rows, in_columns, end in zip(logits, rows, columns, ends.tolist(), strict=True):
        if begin < end:
            mesh = _mesh(low, down, in_rows, across, in_columns)
            corners[begin:end] = mesh.ravel()
            _mark_cut(mesh, cut[begin:end])
        begin = end
    return _cells(corners, cut, ends - heights * widths, widths, rows, columns)


def _mesh(
    logits: NDArray[np.float32], down: MeshAxis, rows: slice, across: MeshAxis, columns: slice
) -> NDArray[np.float32]:
    """Return the logits at the mesh's corners in some rows and columns."""
    low = down.needed(rows)
    return down.interpolate(across.interpolate(logits[low], columns, axis=1), rows, low.start)


def _mark_cut(mesh: NDArray[np.float32], cut: NDArray[np.bool_]) -> None:
    """Mark in `cut`, flat, the cells that the outline cuts, each where its first corner is.

    Flat, as neither side of the mesh is inside: what a row's end and the next one's begin with are
    no cell, but they never differ.
    """
    width = mesh.shape[1]
    inside = mesh.ravel() > 0.0
    beside, below = inside[1:] != inside[:-1], inside[width:] != inside[:-width]
    marks = cut[: len(beside) - width]
    np.logical_or(beside[:-width], beside[width:], out=marks)
    marks |= below[:-1]


def _cells(
    corners: NDArray[np.float32],
    cut: NDArray[np.bool_],
    begins: NDArray[np.int64],
    widths: NDArray[np.int64],
    rows: Sequence[slice],
    columns: Sequence[slice],
) -> Cells:
    """Collect the cells that are marked in the masks' meshes, one behind another."""
    corner = np.flatnonzero(cut)
    of_each = np.diff(np.append(np.searchsorted(corner, begins), len(corner)))
    mask = np.repeat(np.arange(len(begins)), of_each)
    width = widths.take(mask)
    place = corner - begins.take(mask)
    row = place // width
    column = place - row * width
    at = np.stack((corner, corner + 1, corner + width, corner + width + 1))
    return Cells(
        mask=mask,
        row=row + _starts(rows).take(mask),
        column=column + _starts(columns).take(mask),
        corners=corners.take(at),
    )


def _lengths(corners: Sequence[slice]) -> NDArray[np.int64]:
    return np.array([which.stop - which.start for which in corners], np.int64)


def _starts(corners: Sequence[slice]) -> NDArray[np.int64]:
    return np.array([which.start for which in corners], np.int64)
