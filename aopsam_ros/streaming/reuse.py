"""A stream's frames, each built on the one before: what gave masks there is decoded first.

The confidence map is sampled only where the picture changed or came into view, and in what is left
of a thing whose prompt went out of it. Key frames are segmented as if they stood alone, so that
what a frame misses is found again: the first one, any after a cut or with other options or of
another size, and every `key_frames`-th.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.errors import OptionError
from aopsam_ros.options import SegmenterOptions
from aopsam_ros.prompting.previous_prompts import Earlier
from aopsam_ros.results import InstanceMask, PromptState, Segmentation
from aopsam_ros.streaming.camera_motion import Thumbnail, shift_between, thumbnail_of

CUT = 0.5  # share of the picture that is another one above which nothing is taken over
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

    The first points gave masks, whose `boxes` float64 `[masks, 4]` are left, top, right and bottom;
    for the others there was no time. `fresh` is where prompts since the key frame say nothing any
    more, in cells of the thumbnail.
    """

    settings: tuple[SegmenterOptions, ReuseOptions]
    size: tuple[int, int]
    thumbnail: Thumbnail
    points: NDArray[np.float64]
    confidence: NDArray[np.float32]
    boxes: NDArray[np.float64]
    fresh: NDArray[np.bool_]
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
        carried = None
        if before is not None and (before.settings, before.size) == (settings, size):
            carried = _carried(before, thumbnail, reuse)
        earlier, fresh, age = carried or (None, np.zeros(thumbnail.shape, np.bool_), 0)
        segmentation = find(earlier)
        prompts = _prompts_of(segmentation, options.asf.max_prompts)
        self._before = _Before(settings, size, thumbnail, *prompts, fresh, age)
        return segmentation


def _carried(
    before: _Before, thumbnail: Thumbnail, reuse: ReuseOptions
) -> tuple[Earlier, NDArray[np.bool_], int] | None:
    """Return what the next frame takes over, what is fresh in it, and its age.

    None where it is to be a key frame. What came into view since the last one counts as changed (a
    thing that enters is nothing to prompt for while only its rim is to be seen), and so does the
    rest of what a prompt that left the picture had given.
    """
    if before.age + 1 >= reuse.key_frames:
        return None
    shift = shift_between(before.thumbnail, thumbnail)
    motion = np.array([[1.0, 0.0, shift[0]], [0.0, 1.0, shift[1]]])
    size = np.array(before.size[::-1], np.float64)
    cells = thumbnail.shape[::-1] / size  # of the thumbnail to a pixel
    points = before.points + shift / cells
    inside = np.all((points >= 0) & (points <= size - 1), axis=1)
    staying = inside[: len(before.boxes)]
    fresh = _moved(before.fresh, motion)
    _mark(fresh, before.boxes[~staying] * np.tile(cells, 2) + np.tile(shift, 2))
    changed = fresh | _changes(before.thumbnail, thumbnail, motion, reuse.change_threshold)
    if changed.mean() > CUT:
        return None
    certain = int(np.count_nonzero(staying))
    earlier = Earlier(points[inside], before.confidence[inside], certain, changed)
    return earlier, fresh, before.age + 1


def _changes(
    before: Thumbnail, after: Thumbnail, motion: NDArray[np.float64], threshold: float
) -> NDArray[np.bool_]:
    """Tell where the picture is another one, the camera's motion taken out."""
    moved = cv2.warpAffine(before, motion, after.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
    difference = cv2.blur(np.abs(after - moved), (AROUND, AROUND))
    return np.asarray(difference > threshold, np.bool_)


def _moved(fresh: NDArray[np.bool_], motion: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Move what is fresh with the camera; what was not shown before is fresh as well."""
    size = fresh.shape[::-1]
    cells = cv2.warpAffine(
        fresh.astype(np.uint8), motion, size, flags=cv2.INTER_NEAREST, borderValue=1
    )
    return np.asarray(cells, np.bool_)


def _mark(cells: NDArray[np.bool_], boxes: NDArray[np.float64]) -> None:
    """Set what lies in boxes `[N, 4]` of left, top, right, bottom, as far as they are inside."""
    for left, top, right, bottom in np.maximum(np.rint(boxes), 0).astype(np.int64):
        cells[top:bottom, left:right] = True


def _prompts_of(
    segmentation: Segmentation, most: int
) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.float64]]:
    """Return points, their confidence, and the box of each that gave a mask: its best one's.

    Those come first, each once, best predicted IoU first. Then come those that a time budget left
    unused; what was beyond the `most` prompts of a frame stays out.
    """
    masks: dict[tuple[float, float], InstanceMask] = {}
    for mask in sorted(segmentation.masks, key=lambda mask: -mask.predicted_iou):
        masks.setdefault(mask.prompt, mask)
    unused = [prompt for prompt in segmentation.prompts if prompt.state == PromptState.UNUSED]
    confidence = {prompt: mask.prompt_confidence for prompt, mask in masks.items()}
    for prompt in unused[: max(0, most - segmentation.decoder_calls)]:
        confidence.setdefault((prompt.x, prompt.y), prompt.confidence)
    points = np.array(list(confidence), np.float64).reshape(-1, 2)
    boxes = [(x, y, x + w, y + h) for x, y, w, h in (mask.bbox for mask in masks.values())]
    return (
        points,
        np.array(list(confidence.values()), np.float32),
        np.array(boxes, np.float64).reshape(-1, 4),
    )
