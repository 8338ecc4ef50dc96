"""Ids that stay with an object from frame to frame, by overlap and by appearance."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.errors import OptionError
from aopsam_ros.masks.overlap import SampleGrid, Shift, iou_table
from aopsam_ros.results import InstanceMask
from aopsam_ros.streaming.track import Track

# That are remembered, those seen last: the cost stays bounded. Three for each of 256 prompts, and
# what is lost.
MAX_TRACKS = 1024
HIGHEST_ID = 2**32 - 1  # of the message's field; ids begin again after it
# Masks lie in one another, so that one object overlaps the tracks of several. With a power of the
# IoU, one perfect match outweighs several fair ones.
POWER = 6
MAX_AREA_RATIO = 2.0  # of masks that may show one object


@dataclass(frozen=True)
class TrackingOptions:
    """How masks are matched with the objects of the frames before."""

    min_iou: float = 0.3  # least IoU with where an object should be now, to be taken for it
    # least cosine of the appearances to find an object again without overlap
    min_similarity: float = 0.9
    max_lost: int = 15  # frames after which an object that is not seen is forgotten

    def __post_init__(self) -> None:
        if not (0 <= self.min_iou <= 1 and 0 <= self.min_similarity <= 1):
            raise OptionError("min_iou and min_similarity must be between 0 and 1")
        if self.max_lost < 0:
            raise OptionError("max_lost must be 0 or more")


class Tracker:
    """Gives masks the ids of the objects they show. One thread at a time may use it."""

    def __init__(self) -> None:
        self._tracks: list[Track] = []
        self._size = (0, 0)
        self._grid = SampleGrid.over(1, 1)
        self._last_id = 0

    def reset(self) -> None:
        """Forget all objects, as after a cut or a jump in time. Ids are not used again."""
        self._tracks.clear()

    def update(
        self,
        masks: Sequence[InstanceMask],
        appearance: NDArray[np.float32],
        height: int,
        width: int,
        camera: Shift = (0.0, 0.0),
        options: TrackingOptions | None = None,
    ) -> tuple[InstanceMask, ...]:
        """Take the masks of the next frame and return them with their objects' ids.

        First every mask is matched with the objects it overlaps where they should be now, those of
        the last frame before those that are lost; then what is left over, with objects of similar
        appearance. All matchings are the best possible ones (Hungarian algorithm).

        Args:
            masks: of the frame; their own ids are not used.
            appearance: the masks' mean features, unit length, float32 `[n, C]`.
            height: of the image; objects are forgotten when its size changes.
            width: of the image.
            camera: how far the whole image moved since the frame before, pixels.
            options: of the frame.
        """
        options = options or TrackingOptions()
        self._set_size(height, width)
        for track in self._tracks:
            track.camera = track.camera + camera
        sampled = [self._grid.sample(mask) for mask in masks]
        pairs = self._by_overlap(sampled, options.min_iou)
        pairs |= self._by_appearance(masks, appearance, pairs, options.min_similarity)
        known, identified = len(self._tracks), []
        for index, mask in enumerate(masks):
            centroid = self._grid.centroid(sampled[index])
            if index in pairs:
                track = self._tracks[pairs[index]]
                whole = self._is_whole(mask) and self._is_whole(track.mask)
                track.update(mask, centroid, appearance[index], whole)
            else:
                track = self._begin(mask, centroid, appearance[index])
            identified.append(replace(mask, id=track.id))
        self._forget(set(pairs.values()), known, options.max_lost)
        return tuple(identified)

    def _set_size(self, height: int, width: int) -> None:
        if self._size != (height, width):
            self.reset()
            self._size, self._grid = (height, width), SampleGrid.over(height, width)

    def _is_whole(self, mask: InstanceMask) -> bool:
        """Tell whether the image's edge cuts nothing off."""
        x, y, width, height = mask.bbox
        return x > 0 and y > 0 and y + height < self._size[0] and x + width < self._size[1]

    def _by_overlap(self, sampled: Sequence[NDArray[np.bool_]], min_iou: float) -> dict[int, int]:
        expected = [self._expected(track) for track in self._tracks]
        shown = [self._grid.shown(track.shift, *self._size) for track in self._tracks]
        overlap = iou_table(sampled, expected, shown)
        scores = np.where(overlap >= min_iou, overlap**POWER, 0.0)
        lost = np.array([track.lost > 0 for track in self._tracks], np.bool_)
        pairs = _match(np.where(lost, 0.0, scores))
        scores[list(pairs)] = 0.0
        return pairs | _match(np.where(lost, scores, 0.0))

    def _expected(self, track: Track) -> NDArray[np.bool_]:
        """Sample an object's mask where it should be now; nothing of one that has left the view.

        `sample` would put that at the edge, where small masks of what enters would be taken for it.
        """
        left, top, right, bottom = np.add(track.mask.corners, track.shift * 2).tolist()
        height, width = self._size
        if left < width and top < height and right > 0 and bottom > 0:
            return self._grid.sample(track.mask, track.shift)
        return np.zeros(len(self._grid.y) * len(self._grid.x), np.bool_)

    def _by_appearance(
        self,
        masks: Sequence[InstanceMask],
        appearance: NDArray[np.float32],
        pairs: dict[int, int],
        min_similarity: float,
    ) -> dict[int, int]:
        """Match by appearance what overlap did not: of about the same size, and similar enough."""
        if not masks or not self._tracks:
            return {}
        similarity = appearance @ np.stack([track.appearance for track in self._tracks]).T
        similarity[similarity < min_similarity] = 0.0
        similarity[list(pairs)] = 0.0
        similarity[:, list(pairs.values())] = 0.0
        areas = np.array([mask.area for mask in masks], np.float64)
        before = np.array([track.mask.area for track in self._tracks], np.float64)
        ratio = areas[:, None] / np.maximum(before[None], 1.0)
        near = (ratio > 1 / MAX_AREA_RATIO) & (ratio < MAX_AREA_RATIO)
        return _match(np.where(near, similarity, 0.0))

    def _begin(
        self, mask: InstanceMask, centroid: NDArray[np.float64], appearance: NDArray[np.float32]
    ) -> Track:
        self._last_id = self._last_id % HIGHEST_ID + 1
        track = Track(self._last_id, mask, centroid, appearance)
        self._tracks.append(track)
        return track

    def _forget(self, seen: set[int], known: int, max_lost: int) -> None:
        """Age the first `known` tracks that were not `seen`; drop those lost for too long."""
        for index, track in enumerate(self._tracks[:known]):
            if index not in seen:
                track.lost += 1
        left = [track for track in self._tracks if track.lost <= max_lost]
        # What is lost must not keep what is seen from being remembered.
        self._tracks = sorted(left, key=lambda track: track.lost)[:MAX_TRACKS]


def _match(scores: NDArray[np.floating]) -> dict[int, int]:
    """Pair rows with columns for the largest sum of scores; pairs of score 0 are none."""
    from scipy.optimize import linear_sum_assignment  # takes 50 MB: only where objects are tracked

    rows, columns = linear_sum_assignment(scores, maximize=True)
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return {row: column for row, column in pairs if scores[row, column] > 0}
