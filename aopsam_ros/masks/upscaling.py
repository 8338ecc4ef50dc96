"""From low-resolution logits to masks' run lengths at the source's resolution.

SAM resizes twice: logits to the padded square, whose valid part is cropped, then to the source
(segment-anything, `Sam.postprocess_masks`; bilinear, half-pixel centres, no antialiasing). Both
steps are linear and separable. So the source's logits are a bilinear surface over a mesh that is
the same for every mask: along a row they are a line that bends at the mesh's columns only, and a
run of the mask begins and ends where that line crosses zero. Pixels are never made: a mask's time
depends on the mesh and on its outline, not on its area.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.geometry import FrameGeometry
from aopsam_ros.masks.rle import EncodedMask

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


@dataclass(frozen=True)
class Runs:
    """Runs of pixels of some masks, mask after mask, row after row, from left to right.

    Arrays are int64 `[n]`: `start` is a run's first pixel in its row and `end` the one behind its
    last; a run that does not end behind its start counts for nothing. In a row a run may begin
    where the one before it ends. `bounds` int64 `[masks + 1]` tells where each mask's runs begin.
    """

    row: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    bounds: NDArray[np.int64]

    def without_empty(self) -> Runs:
        """Return the runs that have a pixel."""
        some = self.end > self.start
        before = np.concatenate(([0], np.cumsum(some)))
        return Runs(self.row[some], self.start[some], self.end[some], before[self.bounds])


def encode_runs(runs: Runs) -> list[EncodedMask]:
    """Encode masks; one without a pixel gets the box (0, 0, 0, 0) and no runs."""
    found = runs.without_empty()
    masks = np.flatnonzero(np.diff(found.bounds))
    encoded = [EncodedMask((0, 0, 0, 0), 0, np.zeros(0, np.uint32))] * (len(runs.bounds) - 1)
    if len(masks) == 0:
        return encoded
    first = found.bounds[masks]
    boxes = _boxes(found, first, found.bounds[masks + 1] - 1)
    areas = np.add.reduceat(found.end - found.start, first).tolist()
    counts = _counts(found, first, boxes)
    for mask, box, area, runs_of_it in zip(masks, boxes.tolist(), areas, counts, strict=True):
        x, y, w, h = box
        encoded[mask] = EncodedMask((x, y, w, h), area, runs_of_it)
    return encoded


def _boxes(runs: Runs, first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return x, y, w, h of each mask, `[masks, 4]`, given its first and its last run."""
    x, right = np.minimum.reduceat(runs.start, first), np.maximum.reduceat(runs.end, first)
    y, bottom = runs.row[first], runs.row[last] + 1
    return np.stack((x, y, right - x, bottom - y), axis=1)


def _counts(
    runs: Runs, first: NDArray[np.int64], boxes: NDArray[np.int64]
) -> list[NDArray[np.uint32]]:
    """Return each mask's run lengths inside its box."""
    bounds = np.append(first, len(runs.row))
    of_each = np.diff(bounds)
    x, y, w, h = boxes.T
    row_start = runs.row * np.repeat(w, of_each) - np.repeat(y * w + x, of_each)
    start, end = row_start + runs.start, row_start + runs.end
    # Where a row's last run meets the next row's first at the box's sides, they are one.
    opens = np.append(True, start[1:] > end[:-1])
    opens[first] = True
    opening = np.flatnonzero(opens)
    closing = np.append(opening[1:], len(start)) - 1
    # Behind each mask's runs comes an empty one, at its box's end.
    behind = np.searchsorted(opening, bounds[1:])
    start = np.insert(start.take(opening), behind, w * h)
    end = np.insert(end.take(closing), behind, w * h)
    last = behind + np.arange(len(behind))
    begin = np.append(0, last[:-1] + 1)
    before = np.append(0, end[:-1])
    before[begin] = 0
    pairs = np.stack((start - before, end - start), axis=1).astype(np.uint32)
    rest = pairs[last, 0] > 0
    # Copies: a mask that is kept for long must not keep all others.
    return [
        pairs.ravel()[2 * a : 2 * b + more].copy()
        for a, b, more in zip(begin.tolist(), last.tolist(), rest.tolist(), strict=True)
    ]
