"""Ids that stay with an object from frame to frame, by overlap and by looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from aopsam_ros.errors import OptionError
from aopsam_ros.segmentation import InstanceMask
from aopsam_ros.tracking.overlap import SampleGrid, iou_table

MAX_TRACKS = 512  # more objects at once get ids, but are not remembered: the cost stays bounded
HIGHEST_ID = 2**32 - 1  # of the message's field; ids begin again after it
FRESH = 0.5  # share of a new look in a track's memory of its looks, and of a new step in its speed


@dataclass(frozen=True)
class TrackingOptions:
    """How masks are matched with the objects of the frames before.

    Attributes:
        min_iou: Least IoU with where an object should be now, to be taken for it.
        min_similarity: Least cosine of the looks to find an object again that has no such overlap.
        max_lost: Frames after which an object that is not seen is forgotten.
    """

    min_iou: float = 0.3
    min_similarity: float = 0.8
    max_lost: int = 15

    def __post_init__(self) -> None:
        """Refuse values without a meaning."""
        if not (0 <= self.min_iou <= 1 and 0 <= self.min_similarity <= 1):
            raise OptionError("min_iou and min_similarity must be between 0 and 1")
        if self.max_lost < 0:
            raise OptionError("max_lost must be 0 or more")


@dataclass
class _Track:
    """An object: its last mask, how it looks, and how fast its middle moves, pixels a frame."""

    id: int
    mask: InstanceMask
    looks: NDArray[np.float32]
    speed: NDArray[np.float64]
    lost: int = 0

    def predicted_shift(self) -> tuple[float, float]:
        x, y = self.speed * (self.lost + 1)
        return float(x), float(y)


class Tracker:
    """Gives masks the ids of the objects they show. One thread at a time may use it."""

    def __init__(self, options: TrackingOptions | None = None) -> None:
        """Begin with no object known."""
        self.options = options or TrackingOptions()
        self._tracks: list[_Track] = []
        self._grid: SampleGrid | None = None
        self._last_id = 0

    def reset(self) -> None:
        """Forget all objects, as after a cut or a jump in time. Ids are not used again."""
        self._tracks.clear()

    def update(
        self, masks: Sequence[InstanceMask], looks: NDArray[np.float32], height: int, width: int
    ) -> tuple[InstanceMask, ...]:
        """Take the masks of the next frame and return them with their objects' ids.

        First every mask is matched with the objects it overlaps where they should be now; then what
        is left over, with lost and moved objects that look alike. Both matchings are the best
        possible ones (Hungarian algorithm).

        Args:
            masks: of the frame; their own ids are not used.
            looks: the masks' mean features, unit length, float32 `[n, C]`.
            height: of the image; objects are forgotten when its size changes.
            width: of the image.

        Returns:
            the masks in the same order.
        """
        grid = self._grid_for(height, width)
        sampled = [grid.sample(mask) for mask in masks]
        expected = [grid.sample(track.mask, track.predicted_shift()) for track in self._tracks]
        overlap = iou_table(sampled, expected)
        similarity = self._similarity(looks)
        pairs = _match(np.where(overlap >= self.options.min_iou, overlap + similarity, 0.0))
        pairs |= self._find_again(masks, similarity, pairs)
        identified = self._take(masks, looks, pairs)
        self._forget(set(pairs.values()), len(expected))
        return identified

    def _grid_for(self, height: int, width: int) -> SampleGrid:
        grid = self._grid
        if grid is None or (grid.height, grid.width) != (height, width):
            self.reset()
            grid = self._grid = SampleGrid(height, width)
        return grid

    def _similarity(self, looks: NDArray[np.float32]) -> NDArray[np.float32]:
        if not self._tracks or not len(looks):
            return np.zeros((len(looks), len(self._tracks)), np.float32)
        return np.asarray(looks @ np.stack([track.looks for track in self._tracks]).T, np.float32)

    def _find_again(
        self,
        masks: Sequence[InstanceMask],
        similarity: NDArray[np.float32],
        pairs: dict[int, int],
    ) -> dict[int, int]:
        """Match by looks what overlap did not: of about the same size, and alike enough."""
        alike = np.where(similarity >= self.options.min_similarity, similarity, 0.0)
        alike[list(pairs)] = 0.0
        alike[:, list(pairs.values())] = 0.0
        areas = np.array([mask.area for mask in masks], np.float64)
        before = np.array([track.mask.area for track in self._tracks], np.float64)
        ratio = areas[:, None] / np.maximum(before[None], 1.0)
        return _match(np.where((ratio > 0.5) & (ratio < 2.0), alike, 0.0))

    def _take(
        self, masks: Sequence[InstanceMask], looks: NDArray[np.float32], pairs: dict[int, int]
    ) -> tuple[InstanceMask, ...]:
        identified = []
        for index, mask in enumerate(masks):
            if index in pairs:
                track = self._tracks[pairs[index]]
                _continue(track, mask, looks[index])
            else:
                track = self._begin(mask, looks[index])
            identified.append(replace(mask, id=track.id))
        return tuple(identified)

    def _begin(self, mask: InstanceMask, looks: NDArray[np.float32]) -> _Track:
        self._last_id = self._last_id % HIGHEST_ID + 1
        track = _Track(self._last_id, mask, looks, np.zeros(2))
        if len(self._tracks) < MAX_TRACKS:
            self._tracks.append(track)
        return track

    def _forget(self, seen: set[int], known: int) -> None:
        """Age the first `known` tracks that were not `seen`; drop those lost for too long."""
        for index, track in enumerate(self._tracks[:known]):
            if index not in seen:
                track.lost += 1
        self._tracks = [track for track in self._tracks if track.lost <= self.options.max_lost]


def _continue(track: _Track, mask: InstanceMask, looks: NDArray[np.float32]) -> None:
    step = (_middle(mask) - _middle(track.mask)) / (track.lost + 1)
    track.speed = (1 - FRESH) * track.speed + FRESH * step
    mixed = (1 - FRESH) * track.looks + FRESH * looks
    track.looks = np.asarray(mixed / max(float(np.linalg.norm(mixed)), 1e-12), np.float32)
    track.mask, track.lost = mask, 0


def _middle(mask: InstanceMask) -> NDArray[np.float64]:
    x, y, width, height = mask.bbox
    return np.array([x + width / 2, y + height / 2])


def _match(scores: NDArray[np.float32]) -> dict[int, int]:
    """Pair rows with columns for the largest sum of scores; pairs of score 0 are none."""
    rows, columns = linear_sum_assignment(scores, maximize=True)
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return {row: column for row, column in pairs if scores[row, column] > 0}
