"""What a stream's frame takes over from the one before: prompts that gave masks are decoded first.

The PCM is sampled only where the image changed or came into view, and in what is left of an object
whose prompt moved out of it. Key frames are segmented on their own, so that what a frame misses is
found again: the first one, any after a cut or with other options or of another size, and every
`key_frames`-th.
"""

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.errors import OptionError
from aopsam_ros.options import SegmenterOptions
from aopsam_ros.prompting.previous_prompts import PreviousPrompts
from aopsam_ros.results import InstanceMask, Prompt, PromptState, Segmentation
from aopsam_ros.streaming.camera_motion import Thumbnail, shift_between, thumbnail_of

CUT = 0.5  # share of the image that changed above which nothing is taken over
WINDOW = 9  # pixels of a thumbnail that a change is averaged over, against noise and edges


@dataclass(frozen=True)
class ReuseOptions:
    """How frames build on one another."""

    # mean difference around a place, in grey levels of 0 to 255, above which it has changed
    change_threshold: float = 6.0
    key_frames: int = 10  # every so many frames one is segmented on its own; 1: each

    def __post_init__(self) -> None:
        if not 0 <= self.change_threshold <= 255:
            raise OptionError("change_threshold must be between 0 and 255")
        if self.key_frames < 1:
            raise OptionError("key_frames must be 1 or more")


@dataclass(frozen=True)
class _LastFrame:
    """The last frame, as far as the next one needs it."""

    settings: tuple[SegmenterOptions, ReuseOptions]  # options it was segmented with
    size: tuple[int, int]  # rows and columns, pixels
    thumbnail: Thumbnail  # of the image
    # where the prompts since the key frame are no guide, bool, cells of the thumbnail
    new: NDArray[np.bool_]
    age: int = 0  # frames since the key frame
    # first those that gave masks, then those that were not decoded for want of time
    prompts: tuple[Prompt, ...] = ()
    masks: tuple[InstanceMask, ...] = ()  # the best one of each of the first prompts


class FrameReuse:
    """Remembers the last frame of a stream. One thread at a time may use it."""

    def __init__(self) -> None:
        self._last: _LastFrame | None = None
        self._current: _LastFrame | None = None

    def begin(
        self, rgb: NDArray[np.uint8], options: SegmenterOptions, reuse: ReuseOptions
    ) -> PreviousPrompts | None:
        """Return what the next frame takes over from the last one; None for a key frame.

        Unless `end` follows, the frame after it is a key frame. The frame is uint8 `[H, W, 3]`.
        """
        last, self._last = self._last, None
        height, width = rgb.shape[:2]
        thumbnail = thumbnail_of(rgb)
        nothing = np.zeros(thumbnail.shape, np.bool_)
        self._current = _LastFrame((options, reuse), (height, width), thumbnail, nothing)
        if last is None or (last.settings, last.size) != ((options, reuse), (height, width)):
            return None
        if last.age + 1 >= reuse.key_frames:
            return None
        previous, new = _take_over(last, thumbnail, reuse)
        if previous.changed.mean() > CUT:
            return None
        self._current = replace(self._current, new=new, age=last.age + 1)
        return previous

    def end(self, segmentation: Segmentation) -> None:
        """Remember what was found in the frame that began last."""
        if self._current is not None:
            most = self._current.settings[0].asf.max_prompts
            prompts, masks = _prompts_of(segmentation, most)
            self._last = replace(self._current, prompts=prompts, masks=masks)
        self._current = None


def _take_over(
    last: _LastFrame, thumbnail: Thumbnail, reuse: ReuseOptions
) -> tuple[PreviousPrompts, NDArray[np.bool_]]:
    """Return the last frame's prompts where they are now, and what is new since the key frame.

    What came into view since then counts as changed (an object that enters is nothing to prompt
    for while only its rim shows), and so does the rest of an object whose prompt left the image.
    """
    shift = shift_between(last.thumbnail, thumbnail)
    motion = np.array([[1.0, 0.0, shift[0]], [0.0, 1.0, shift[1]]])
    size = np.array(last.size[::-1], np.float64)
    cells = thumbnail.shape[::-1] / size  # of the thumbnail to a pixel
    points = np.array([(prompt.x, prompt.y) for prompt in last.prompts]).reshape(-1, 2)
    points += shift / cells
    inside = np.all((points >= 0) & (points <= size - 1), axis=1)
    staying = inside[: len(last.masks)]
    new = _moved(last.new.astype(np.uint8), motion, cv2.INTER_NEAREST, cv2.BORDER_CONSTANT) > 0
    masks = np.array([mask.corners for mask in last.masks]).reshape(-1, 4)
    left_behind = masks[~staying] * np.tile(cells, 2) + np.tile(shift, 2)
    for left, top, right, bottom in np.maximum(np.rint(left_behind), 0).astype(np.int64):
        new[top:bottom, left:right] = True
    before = _moved(last.thumbnail, motion, cv2.INTER_LINEAR, cv2.BORDER_REPLICATE)
    difference = cv2.blur(np.abs(thumbnail - before), (WINDOW, WINDOW))
    changed = new | (difference > reuse.change_threshold)
    confidence = np.array([prompt.confidence for prompt in last.prompts], np.float32)
    boxes = None
    known = [prompt.box for prompt in last.prompts if prompt.box is not None]
    if len(known) == len(last.prompts):  # of none, too: new prompts then keep their own
        moved = np.array(known).reshape(-1, 4)[inside] + np.tile(shift / cells, 2)
        boxes = np.clip(moved, 0.0, np.tile(size, 2))
    num_protected = int(np.count_nonzero(staying))
    previous = PreviousPrompts(points[inside], confidence[inside], num_protected, changed, boxes)
    return previous, new


def _moved(cells: NDArray[Any], motion: NDArray[np.float64], how: int, border: int) -> NDArray[Any]:
    """Move cells of a thumbnail with the camera; a constant border is 1: not in view before."""
    size = cells.shape[::-1]
    return cv2.warpAffine(cells, motion, size, flags=how, borderMode=border, borderValue=1)


def _prompts_of(
    segmentation: Segmentation, most: int
) -> tuple[tuple[Prompt, ...], tuple[InstanceMask, ...]]:
    """Return prompts, and the best mask of each that gave one.

    Those come first, each once, best score first. Then come those that a time budget left unused;
    what was beyond the `most` prompts of a frame stays out.
    """
    masks: dict[tuple[float, float], InstanceMask] = {}
    for mask in sorted(segmentation.masks, key=lambda mask: -mask.score):
        for place in (mask.prompt, *mask.merged_prompts):  # a merged mask is all of its prompts'
            masks.setdefault(place, mask)
    unused = [prompt for prompt in segmentation.prompts if prompt.state == PromptState.UNUSED]
    waiting = unused[: max(0, most - segmentation.prompts_decoded)]
    prompts = {(prompt.x, prompt.y): prompt for prompt in segmentation.prompts}
    chosen = dict.fromkeys((*masks, *((prompt.x, prompt.y) for prompt in waiting)))
    return tuple(prompts[place] for place in chosen), tuple(masks.values())
