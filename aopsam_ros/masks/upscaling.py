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
        starts, ends = self._runs(*cut_cells(logits, self._down, self._across))
        line = starts // self._stride
        before = line * self._stride
        bounds = np.searchsorted(line, np.arange(len(logits) + 1) * self._height)
        return encode_runs(line % self._height, starts - before, ends - before, bounds)

    def _runs(
        self,
        mask: NDArray[np.int64],
        row: NDArray[np.int64],
        column: NDArray[np.int64],
        corners: NDArray[np.float32],
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Follow every row of the source through the cells that it crosses; see `cut_cells`.

        Returns:
            where runs of pixels above zero start, and the pixels behind them, counted over all
            rows of all masks, in order. A row has one pixel more than the source, for the end of a
            run at its side.
        """
        cell, y = self._down.pixels_in(row)
        share = self._down.share.take(y)
        # In 64 bits no product vanishes: what is inside stays inside.
        above, below = corners.astype(np.float64).take(cell, axis=1).reshape(2, 2, -1)
        above *= 1.0 - share
        below *= share
        above += below
        crossed = np.flatnonzero((above[0] > 0.0) != (above[1] > 0.0))
        cell, y = cell.take(crossed), y.take(crossed)
        left, right = above.take(crossed, axis=1)
        corner = column.take(cell)
        before = self._across.position.take(corner)
        way = self._across.position.take(corner + 1) - before
        crossing = before + way * (left / (left - right))
        line = (mask.take(cell) * self._height + y) * self._stride
        enters, leaves = np.flatnonzero(right > 0.0), np.flatnonzero(left > 0.0)
        # A pixel on the crossing itself is not above zero.
        starts = line.take(enters) + np.floor(crossing.take(enters)).astype(np.int64) + 1
        ends = line.take(leaves) + np.ceil(crossing.take(leaves)).astype(np.int64)
        # In a row they take turns: sorted by themselves they still belong together.
        starts.sort()
        ends.sort()
        has_pixels = ends > starts
        return starts[has_pixels], ends[has_pixels]


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
        pixel = np.arange(source)
        cell = np.searchsorted(self.position, pixel, side="left") - 1
        before = self.position[cell]
        self.share = (pixel - before) / (self.position[cell + 1] - before)
        # The first pixel behind each corner; a cell without a pixel has the next one's.
        self._begin = np.searchsorted(cell, np.arange(len(self.position)))

    def reach(self, positive: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the corners that positive low-resolution pixels reach, and one on each side.

        `positive`, `[n, M]`, says which rows, or columns, of each mask have such a pixel. Returned
        are the first corner of each mask and the one behind the last, int64 `[n]`; both 0 where
        only the padding is positive, or nothing.
        """
        lowest = positive.argmax(axis=1)
        highest = positive.shape[1] - 1 - positive[:, ::-1].argmax(axis=1)
        first = np.searchsorted(self._last, lowest)
        last = np.searchsorted(self._first, highest, side="right")
        found = (first < last) & positive.any(axis=1)
        start = np.where(found, np.maximum(0, first - 1), 0)
        return start, np.where(found, np.minimum(len(self.position), last + 1), 0)

    def needed(self, corners: slice) -> slice:
        """Return the low-resolution pixels that some corners, at least one, are made of."""
        return slice(self._first[corners.start], self._last[corners.stop - 1] + 1)

    def interpolate(
        self, logits: NDArray[np.float32], corners: slice, start: int = 0, axis: int = 0
    ) -> NDArray[np.float32]:
        """Return the logits at some corners: as `logits`, with the corners along `axis`.

        The matrix of logits begins with the low-resolution pixel `start` along that axis.
        """
        shape = (-1, 1) if axis == 0 else (1, -1)
        result = logits.take(self._first[corners] - start, axis=axis)
        result *= self._of_first[corners].reshape(shape)
        last = logits.take(self._last[corners] - start, axis=axis)
        last *= self._of_last[corners].reshape(shape)
        result += last
        return result

    def pixels_in(self, cells: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return every source pixel in cells that begin with some corners, `[n]`.

        Returned are an index into `cells` and the source pixel, one after another.
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


def cut_cells(
    logits: NDArray[np.float32], down: MeshAxis, across: MeshAxis
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Find the cells of a mesh whose corners are not all inside a mask, nor all outside.

    Logits are `[masks, M, M]` of a mask at least, finite; above zero is inside.

    Returns:
        mask, row and column of each cell, int64 `[n]`, those of a mask together, in the order of
        rows and columns, and its corners, float32 `[4, n]`: above left, above right, below left and
        below right.
    """
    positive = logits > 0.0
    top, bottom = down.reach(np.asarray(positive.any(axis=2)))
    first, last = across.reach(np.asarray(positive.any(axis=1)))
    widths = last - first
    bounds = np.append(0, np.cumsum((bottom - top) * widths))
    # The masks' meshes one behind another: calls for each mask are what takes the time.
    corners = np.empty(bounds[-1], np.float32)
    cut = np.zeros(bounds[-1], np.bool_)
    sides = np.stack((top, bottom, first, last, bounds[:-1], bounds[1:]), axis=1)
    for low, (*ends, begin, end) in zip(logits, sides.tolist(), strict=True):
        if begin < end:
            rows, columns = slice(*ends[:2]), slice(*ends[2:])
            needed = down.needed(rows)
            mesh = across.interpolate(low[needed], columns, axis=1)
            mesh = down.interpolate(mesh, rows, needed.start)
            corners[begin:end] = mesh.ravel()
            _mark_cut(mesh, cut[begin:end])
    corner = np.flatnonzero(cut)
    mask = np.repeat(np.arange(len(logits)), np.diff(np.searchsorted(corner, bounds)))
    width = widths.take(mask)
    place = corner - bounds.take(mask)
    row = place // width
    at = np.stack((corner, corner + 1, corner + width, corner + width + 1))
    column = place - row * width
    return mask, row + top.take(mask), column + first.take(mask), corners.take(at)


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


def encode_runs(
    row: NDArray[np.int64],
    start: NDArray[np.int64],
    end: NDArray[np.int64],
    bounds: NDArray[np.int64],
) -> list[EncodedMask]:
    """Encode masks; one without a pixel gets the box (0, 0, 0, 0) and no runs.

    Args:
        row: of each run of pixels, int64 `[n]`: mask after mask, row after row, from left to right.
        start: a run's first pixel in its row; it may be where the run before ends.
        end: the pixel behind its last.
        bounds: where each mask's runs begin, and the last one's end, `[masks + 1]`.
    """
    encoded = [EncodedMask((0, 0, 0, 0), 0, np.zeros(0, np.uint32))] * (len(bounds) - 1)
    masks = np.flatnonzero(np.diff(bounds))
    if len(masks) == 0:
        return encoded
    first, behind = bounds[masks], bounds[masks + 1]
    x, right = np.minimum.reduceat(start, first), np.maximum.reduceat(end, first)
    y, w, h = row[first], right - x, row[behind - 1] + 1 - row[first]
    areas = np.add.reduceat(end - start, first)
    # Places inside the mask's box, row by row.
    row_start = row * np.repeat(w, behind - first) - np.repeat(y * w + x, behind - first)
    start, end = row_start + start, row_start + end
    # Where a row's last run meets the next row's first at the box's sides, they are one.
    opens = np.append(True, start[1:] > end[:-1])
    opens[first] = True
    opening = np.flatnonzero(opens)
    start, end = start.take(opening), end.take(np.append(opening[1:], len(end)) - 1)
    first, behind = np.searchsorted(opening, first), np.searchsorted(opening, behind)
    before = np.append(0, end[:-1])
    before[first] = 0
    pairs = np.stack((start - before, end - start), axis=1).astype(np.uint32)
    rest = (w * h - end[behind - 1]).astype(np.uint32)
    boxes = map(tuple, np.stack((x, y, w, h), axis=1).tolist())
    parts = zip(masks, boxes, areas.tolist(), first.tolist(), behind.tolist(), rest, strict=True)
    for mask, box, area, begin, stop, remaining in parts:
        counts = pairs[begin:stop].ravel()
        # A copy in any case: a mask that is kept for long must not keep all others.
        counts = np.append(counts, remaining) if remaining else counts.copy()
        encoded[mask] = EncodedMask(box, area, counts)
    return encoded
