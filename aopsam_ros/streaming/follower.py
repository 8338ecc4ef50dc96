"""Following one chosen thing: prompted anew in every frame, found again by its features."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.errors import OptionError
from aopsam_ros.geometry import FrameGeometry
from aopsam_ros.masks.rle import decode_full
from aopsam_ros.masks.selection import MASK_THRESHOLD, count_pixels, mask_corners
from aopsam_ros.options import SegmenterOptions
from aopsam_ros.prompting.features import FeatureMap
from aopsam_ros.prompting.user_prompts import BOTTOM_RIGHT, OBJECT, TOP_LEFT
from aopsam_ros.results import InstanceMask
from aopsam_ros.segmentation.answers import agreement_with
from aopsam_ros.segmentation.interactive import mask_logits, upscaled
from aopsam_ros.segmentation.segmenter import FrameEmbedding, Segmenter
from aopsam_ros.streaming.appearance import Appearance, pool
from aopsam_ros.streaming.object_motion import ObjectMotion, moved_map

PADDING = -1  # label of no point
MARGIN = 0.1  # of its sides, by which a box is larger than the mask where it is expected
LEAST_OVERLAP = 0.2  # IoU of a mask with where the thing is expected, to be taken for it
PEAKS = 6  # places of a frame that look most like a lost thing, tried as prompts
CLEARLY = 0.05  # by how much more similar a mask has to be anywhere than where it is expected
# Of a mask's similarity and its predicted IoU beside its overlap with where the thing is expected.
SIMILARITY_WEIGHT = IOU_WEIGHT = 0.5
AREA_RATIO = 4.0  # of a thing before and after it was lost
FORGET = 0.98  # of how similar a place beside the thing was, from frame to frame
KNOWN = 0.6  # of a mask's similarity that its place had before, to be something else
BACKGROUND_LOGIT = -6.0  # of what the moved mask uncovers


class TargetState(enum.IntEnum):
    """Whether the thing was seen; the values are the constants of `msg/Target.msg`."""

    FOLLOWED = 0
    LOST = 1  # not seen in this frame, searched for in the next
    GIVEN_UP = 2  # lost for too many frames: no longer searched for


@dataclass(frozen=True)
class FollowOptions:
    """When a thing is lost, and found again."""

    # least cosine of a mask's features and the thing's, without what the scene has in common, to be
    # taken for it
    min_similarity: float = 0.65
    max_lost: int = 300  # frames without it after which it is given up

    def __post_init__(self) -> None:
        if not 0 <= self.min_similarity <= 1 or self.max_lost < 1:
            raise OptionError("min_similarity must be between 0 and 1, max_lost at least 1")


@dataclass(frozen=True)
class Target:
    """What became of the thing in a frame."""

    state: TargetState
    mask: InstanceMask | None  # None: not seen
    similarity: float  # cosine of the mask's features and the thing's, of the best one if none
    frames_lost: int  # without it, this one included


def fills_cells(mask: InstanceMask, geometry: FrameGeometry, side: int) -> bool:
    """Tell whether a mask fills one of the decoder's cells at least, of `side` x `side`.

    The model sees nothing of a smaller one: there is nothing to follow.
    """
    logits = mask_logits(decode_full(mask, geometry.height, geometry.width), geometry, side)
    return bool(_binary(logits[None], geometry).any())


class _Found(NamedTuple):
    """A mask taken for the thing: logits `[M, M]`, scores, and its mean feature `[C]`."""

    logits: NDArray[np.float32]
    predicted_iou: float
    similarity: float
    feature: NDArray[np.float32]


class Follower:
    """Finds one thing in the frames of a camera. One thread at a time may use it.

    Attributes:
        target: what became of the thing in the last frame; None before the first.
        options: of the frames to come.
    """

    def __init__(
        self, rgb: NDArray[np.uint8], mask: InstanceMask, options: FollowOptions | None = None
    ) -> None:
        """Begin with an image, uint8 `[H, W, 3]`, and the thing's mask in it."""
        self.target: Target | None = None
        self.options = options or FollowOptions()
        self._id = mask.id
        self._begin: tuple[NDArray[np.uint8], InstanceMask] | None = (rgb, mask)
        self._motion = ObjectMotion()
        # By cell, how similar to the thing was what is there; 0 where the thing was.
        self._beside: NDArray[np.float32]
        self._appearance: Appearance
        self._logits: NDArray[np.float32]  # its last mask
        self._area = 0  # of that, cells
        self._lost = 0

    def prepare(self, segmenter: Segmenter, options: SegmenterOptions | None = None) -> None:
        """Learn what the thing looks like, once; before the next frame is encoded.

        `options` are that frame's: the first image is encoded with them.

        Raises:
            InferenceError: if a graph fails.
        """
        if self._begin is None:
            return
        rgb, mask = self._begin
        frame = segmenter.encode(rgb, options)
        side = segmenter.bundle.low_res_mask_size
        logits = mask_logits(decode_full(mask, *rgb.shape[:2]), frame.geometry, side)
        binary = _binary(logits[None], frame.geometry)
        self._appearance = Appearance(segmenter, frame, binary)
        self._motion.update(rgb, binary.shape[1:])
        self._beside = np.zeros(binary.shape[1:], np.float32)
        self._take(logits, binary[0], self._appearance.features(segmenter, frame))
        self._begin = None  # where anything failed, the next frame tries again

    def update(self, segmenter: Segmenter, frame: FrameEmbedding, rgb: NDArray[np.uint8]) -> Target:
        """Find the thing in the next frame, the segmenter's last; keep the answer as `target`.

        Raises:
            InferenceError: if a graph fails.
        """
        features = self._appearance.features(segmenter, frame)
        self._move(rgb, frame.geometry)
        least = self.options.min_similarity
        expected = found = self._where_expected(segmenter, frame, features)
        if found is None or found.similarity < least:
            least = min(1.0, least + CLEARLY)
            found = self._anywhere(segmenter, frame, features)
        shown = None
        if found is not None and found.similarity >= least:
            shown = self._shown(segmenter, found, frame.geometry)
        if found is None or shown is None:
            best = max((each.similarity for each in (expected, found) if each), default=0.0)
            self.target = self._lose(best, frame.geometry)
            return self.target
        self._lost = 0
        self._take(found.logits, _binary(found.logits[None], frame.geometry)[0], features)
        self._appearance.learn(found.feature)
        self.target = Target(TargetState.FOLLOWED, shown, found.similarity, 0)
        return self.target

    def _shown(
        self, segmenter: Segmenter, found: _Found, geometry: FrameGeometry
    ) -> InstanceMask | None:
        """Return the mask in source pixels; None where it has cells, but fills no pixel."""
        iou = np.array([found.predicted_iou], np.float32)
        (mask,) = upscaled(segmenter, geometry, found.logits[None], iou, (0.0, 0.0))
        if not mask.area:
            return None
        x, y, width, height = mask.bbox
        return replace(mask, id=self._id, prompt=(x + width / 2 - 0.5, y + height / 2 - 0.5))

    def _move(self, rgb: NDArray[np.uint8], geometry: FrameGeometry) -> None:
        """Move what is known to where it is in the next frame."""
        cells = geometry.valid_cells(len(self._logits))
        if self._beside.shape != cells:  # an image of another size
            self._beside = np.zeros(cells, np.float32)
        own, around = self._motion.update(rgb, cells)
        # What hides a thing moves by itself: a lost one is expected where its surroundings lead.
        self._logits = moved_map(self._logits, around if self._lost else own, BACKGROUND_LOGIT)
        self._beside = moved_map(self._beside, around)

    def _lose(self, similarity: float, geometry: FrameGeometry) -> Target:
        self._lost += 1
        self._motion.look_at(_binary(self._logits[None], geometry)[0])
        given_up = self._lost > self.options.max_lost
        state = TargetState.GIVEN_UP if given_up else TargetState.LOST
        return Target(state, None, similarity, self._lost)

    def _take(
        self, logits: NDArray[np.float32], binary: NDArray[np.bool_], features: FeatureMap
    ) -> None:
        """Remember where the thing is, and what beside it looks like it."""
        self._logits, self._area = logits, int(np.count_nonzero(binary))
        self._motion.look_at(binary)
        similar = cv2.resize(self._appearance.similarity_map(features), binary.shape[::-1])
        # A feature at its edge, half inside it, shows a part of it.
        reach = 2 * round(logits.shape[-1] / features.size / 2) + 1
        own = cv2.dilate(binary.astype(np.uint8), np.ones((reach, reach), np.uint8))
        self._beside = np.where(own, 0.0, np.maximum(FORGET * self._beside, similar))

    def _where_expected(
        self, segmenter: Segmenter, frame: FrameEmbedding, features: FeatureMap
    ) -> _Found | None:
        """Prompt with the expected mask, its box and its innermost point; None: nothing there."""
        expected = _binary(self._logits[None], frame.geometry)[0]
        if not expected.any():
            return None
        coords, labels = _prompts(expected, frame.geometry, len(self._logits))
        decoded = [segmenter.decode(frame, coords, labels)]
        if segmenter.engine.accepts_mask_input:
            begin = np.tile(self._logits, (len(coords), 1, 1, 1))
            decoded.append(segmenter.decode(frame, coords, labels, begin))
        logits = np.concatenate([found.reshape(-1, *found.shape[2:]) for found, _ in decoded])
        predicted_iou = np.concatenate([iou.ravel() for _, iou in decoded])
        rows, columns = expected.shape
        overlap = agreement_with(self._logits[:rows, :columns], logits[:, :rows, :columns])
        overlap[overlap < LEAST_OVERLAP] = 0.0
        return self._best(logits, predicted_iou, features, overlap)

    def _anywhere(
        self, segmenter: Segmenter, frame: FrameEmbedding, features: FeatureMap
    ) -> _Found | None:
        """Prompt the places that look most like the thing, and did not when it was beside them.

        None: no mask is of its size.
        """
        points = self._alike(features)
        logits, predicted = segmenter.decode(frame, points[:, None], np.ones((len(points), 1)))
        logits, predicted_iou = logits.reshape(-1, *logits.shape[2:]), predicted.ravel()
        binary = _binary(logits, frame.geometry)
        ratio = count_pixels(binary) / max(1, self._area)
        similar = cv2.resize(self._appearance.similarity_map(features), binary.shape[:0:-1])
        before, now = (np.tensordot(binary, m, 2) for m in (self._beside, similar))
        possible = (ratio > 1 / AREA_RATIO) & (ratio < AREA_RATIO) & (before < KNOWN * now)
        return self._best(logits, predicted_iou, features, possible.astype(np.float64))

    def _best(
        self,
        logits: NDArray[np.float32],
        predicted_iou: NDArray[np.float32],
        features: FeatureMap,
        prior: NDArray[np.float64],
    ) -> _Found | None:
        """Return the mask of the best sum of prior, similarity and predicted IoU.

        None where the prior is 0 for all.
        """
        binary = _binary(logits, features.geometry)
        possible = np.flatnonzero((prior > 0) & binary.any(axis=(1, 2)))
        if not len(possible):
            return None
        pooled = pool(features, binary[possible], logits.shape[-1])
        similarity = self._appearance.similarity(pooled)
        quality = np.clip(predicted_iou[possible], 0.0, 1.0)
        score = prior[possible] + SIMILARITY_WEIGHT * similarity + IOU_WEIGHT * quality
        best = int(score.argmax())
        index = possible[best]
        return _Found(
            logits[index], float(predicted_iou[index]), float(similarity[best]), pooled[best]
        )

    def _alike(self, features: FeatureMap) -> NDArray[np.float64]:
        """Return the places that became most similar to the thing, source pixels `[n, 2]`."""
        grid = self._appearance.similarity_map(features)
        grid -= cv2.resize(self._beside, grid.shape[::-1], interpolation=cv2.INTER_AREA)
        cosine = grid.ravel()
        peaks = np.flatnonzero((grid == cv2.dilate(grid, np.ones((3, 3), np.uint8))).ravel())
        best = peaks[np.argsort(-cosine[peaks], kind="stable")[:PEAKS]]
        cells = np.stack((best % features.columns, best // features.columns), axis=1)
        return features.geometry.cells_to_source(cells, features.size)


def _binary(logits: NDArray[np.float32], geometry: FrameGeometry) -> NDArray[np.bool_]:
    rows, columns = geometry.valid_cells(logits.shape[-1])
    return np.asarray(logits[:, :rows, :columns] > MASK_THRESHOLD)


def _prompts(
    expected: NDArray[np.bool_], geometry: FrameGeometry, side: int
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Prompt with a mask's box and innermost point, and with its box alone, made larger."""
    distance = cv2.distanceTransform(np.pad(expected, 1).astype(np.uint8), cv2.DIST_L2, 3)
    y, x = np.unravel_index(distance[1:-1, 1:-1].argmax(), expected.shape)
    corners = mask_corners(expected[None])[0].astype(np.float64)
    margin = MARGIN * np.tile(corners[2:] - corners[:2], 2) * [-1, -1, 1, 1]
    boxes = np.stack((corners, corners + margin)).reshape(2, 2, 2) - 0.5
    coords = np.concatenate((np.full((2, 1, 2), [x, y]), boxes), axis=1)
    labels = np.array(
        [[OBJECT, TOP_LEFT, BOTTOM_RIGHT], [PADDING, TOP_LEFT, BOTTOM_RIGHT]], np.float32
    )
    return geometry.cells_to_source(coords, side), labels
