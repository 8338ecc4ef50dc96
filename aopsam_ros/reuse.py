"""A stream's frames, each built on the one before: what gave masks there is decoded first.

The confidence map is sampled only where the picture changed. Key frames are segmented as if they
stood alone, so that what a frame misses is found again: the first one, any after a cut or with
other options or of another size, and every `key_frames`-th.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.errors import OptionError
from aopsam_ros.options import SegmenterOptions
from aopsam_ros.prompting.earlier import Earlier
from aopsam_ros.segmentation import PromptState, Segmentation
from aopsam_ros.tracking.camera_motion import Thumbnail, shift_between, thumbnail_of

CUT = 0.5  # share of the picture that changed above which nothing is taken over
AROUND = 9  # pixels of a thumbnail a change is averaged over: neither noise nor an edge is one


@dataclass(frozen=True)
class ReuseOptions:
    """How frames build on one another.

    Attributes:
        change_threshold: Mean difference around a place, in grey levels of 0 to 255, above which
            it has changed.
        key_frames: Every so many frames one is segmented as if it stood alone; 1: each.
    """

    change_threshold: float = 6.0
    key_frames: int = 10

    def __post_init__(self) -> None:
        """Refuse values without a meaning."""
        if not 0 <= self.change_threshold <= 255:
            raise OptionError("change_threshold must be between 0 and 255")
        if self.key_frames < 1:
            raise OptionError("key_frames must be 1 or more")


@dataclass(frozen=True)
class _Before:
    """The last frame, as far as the next one needs it; `age` in frames since the key frame.

    The first `certain` points gave masks; for the others there was no time.
    """

    settings: tuple[SegmenterOptions, ReuseOptions]
    size: tuple[int, int]
    thumbnail: Thumbnail
    points: NDArray[np.float64]
    confidence: NDArray[np.float32]
    certain: int
    age: int


class FrameReuse:
    """Remembers the last frame of a stream. One thread may use it."""

    def __init__(self) -> None:
        """Begin with no frame known."""
        self._before: _Before | None = None

    def reset(self) -> None:
        """Make the next frame a key frame."""
        self._before = None

    def segment(
        self,
        rgb: NDArray[np.uint8],
        options: SegmenterOptions,
        reuse: ReuseOptions,
        find: Callable[[Earlier | None], Segmentation],
    ) -> Segmentation:
        """Segment the next frame.

        Args:
            rgb: the frame, uint8 `[H, W, 3]`.
            options: of the frame, which `find` uses.
            reuse: of the frame.
            find: segments the frame with what it takes over; None for a key frame. Where it
                raises, the next frame is a key frame.
        """
        before, self._before = self._before, None
        settings, size, thumbnail = (options, reuse), rgb.shape[:2], thumbnail_of(rgb)
        earlier = None
        if before is not None and (before.settings, before.size) == (settings, size):
            earlier = _carried(before, thumbnail, reuse)
        segmentation = find(earlier)
        age = 0 if before is None or earlier is None else before.age + 1
        prompts = _prompts_of(segmentation, options.asf.max_prompts)
        self._before = _Before(settings, size, thumbnail, *prompts, age)
        return segmentation


def _carried(before: _Before, thumbnail: Thumbnail, reuse: ReuseOptions) -> Earlier | None:
    """Return what the next frame takes over; None where it is to be a key frame."""
    if before.age + 1 >= reuse.key_frames:
        return None
    shift = shift_between(before.thumbnail, thumbnail)
    changed = _changes(before.thumbnail, thumbnail, shift, reuse.change_threshold)
    if changed.mean() > CUT:
        return None
    size = np.array(before.size[::-1], np.float64)
    points = before.points + np.array(shift) * size / thumbnail.shape[::-1]
    inside = np.all((points >= 0) & (points <= size - 1), axis=1)
    certain = int(np.count_nonzero(inside[: before.certain]))
    return Earlier(points[inside], before.confidence[inside], certain, changed)


def _changes(
    before: Thumbnail, after: Thumbnail, shift: tuple[float, float], threshold: float
) -> NDArray[np.bool_]:
    """Tell where the picture is another one, the camera's motion taken out, or was not shown."""
    motion = np.array([[1.0, 0.0, shift[0]], [0.0, 1.0, shift[1]]])
    size = after.shape[::-1]
    moved = cv2.warpAffine(before, motion, size, borderMode=cv2.BORDER_REPLICATE)
    shown = cv2.warpAffine(np.ones(after.shape, np.uint8), motion, size, flags=cv2.INTER_NEAREST)
    difference = cv2.blur(np.abs(after - moved), (AROUND, AROUND))
    return np.asarray((difference > threshold) | (shown == 0), np.bool_)


def _prompts_of(
    segmentation: Segmentation, most: int
) -> tuple[NDArray[np.float64], NDArray[np.float32], int]:
    """Return points and their confidence, and how many of them gave masks.

    Those come first, each once, best predicted IoU first. Then come those that a time budget left
    unused; what was beyond the `most` prompts of a frame stays out.
    """
    masks = sorted(segmentation.masks, key=lambda mask: -mask.predicted_iou)
    confidence = {mask.prompt: mask.prompt_confidence for mask in masks}
    certain = len(confidence)
    unused = [prompt for prompt in segmentation.prompts if prompt.state == PromptState.UNUSED]
    for prompt in unused[: max(0, most - segmentation.decoder_calls)]:
        confidence.setdefault((prompt.x, prompt.y), prompt.confidence)
    points = np.array(list(confidence), np.float64).reshape(-1, 2)
    return points, np.array(list(confidence.values()), np.float32), certain
