"""What a segmented frame consists of: the types that every other part exchanges."""

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import supervision


class PromptState(enum.IntEnum):
    """What became of a candidate prompt; the values are the constants of `msg/Prompt.msg`."""

    KEPT = 0  # decoded, and at least one of its masks was kept
    ELIMINATED = 1  # never decoded: dropped by ASF, or as its box agrees with another's
    REJECTED = 2  # decoded, but its masks failed a filter or were suppressed
    UNUSED = 3  # never decoded: the budget (prompts or time) was spent


class Status(enum.IntEnum):
    """Whether everything was looked for; the values are the constants of `msg/MaskArray.msg`."""

    COMPLETE = 0  # every prompt was decoded or eliminated, up to the greatest number of prompts
    CUT = 1  # the time budget was spent before all were: masks may be missing
    NO_TIME = 2  # it was spent before the first one was: one batch was decoded all the same


@dataclass(frozen=True)
class Prompt:
    """A prompt in source image pixels, and what became of it."""

    x: float  # of its point, or of its box's centre
    y: float
    confidence: float
    state: PromptState
    # left, top, right, bottom at the pixels' edges: a detector's, or the extents that the predictor
    # expects; None: it has none
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class InstanceMask:
    """One segmented instance, run-length encoded inside its box: see `masks.decode`."""

    id: int  # from 1 on; with tracking, the same for one object in all frames
    # x, y, width, height in source image pixels, tight around the mask
    bbox: tuple[int, int, int, int]
    area: int  # number of pixels set
    predicted_iou: float  # the decoder's estimate of the mask's quality, 0-1
    stability_score: float  # how little the outline depends on the threshold, 0-1
    prompt: tuple[float, float]  # x and y of the prompt that gave it, source image pixels
    prompt_confidence: float  # of that prompt, 0-1
    label: str  # of a label set, or class of the detection that gave the prompt; "": unknown
    # row-major run lengths inside the box, uint32: the first run is background (and may be 0), then
    # foreground and background alternate; their sum is width times height
    counts: NDArray[np.uint32]
    # expected IoU with a thing, 0-1, which masks are ranked by: predicted IoU, or what the bundle
    # makes of it, the stability score, the prompt's confidence and its box
    score: float = 0.0
    parent: int = 0  # id of the smallest mask that holds nine tenths of this one; 0: there is none
    level: int = 0  # 0 for a mask without a parent, else one more than the parent's
    label_score: float = 0.0  # similarity with the label, or the detection's score, 0-1
    strong: bool = True  # False: it passed only as hysteresis lowers the thresholds
    # ids, before tracking and labels, of the masks that hold nine tenths of it, the smallest first:
    # hysteresis finds parents anew once it knows which masks stay
    holders: tuple[int, ...] = ()
    # x and y of all prompts that had a part in it: several where masks were merged
    merged_prompts: tuple[tuple[float, float], ...] = ()

    @property
    def corners(self) -> tuple[int, int, int, int]:
        """The box's left, top, right and bottom; the latter two are beyond it."""
        x, y, width, height = self.bbox
        return x, y, x + width, y + height

    @property
    def proposal_score(self) -> float:
        """Mean of score and stability score, by which masks are ranked as proposals, 0-1."""
        return (self.score + self.stability_score) / 2


@dataclass(frozen=True)
class Segmentation:
    """Everything found in one frame."""

    height: int  # of the source image, pixels
    width: int  # of the source image, pixels
    # by descending area, so that painting them in order leaves the small ones on top
    masks: tuple[InstanceMask, ...]
    prompts: tuple[Prompt, ...]  # all of the frame, best first
    prompts_decoded: int  # how many of them were decoded
    # milliseconds of preprocess, encoder, predictor, sampling, decoder, filtering, postprocess and
    # total
    timings_ms: Mapping[str, float]
    # the prompt confidence map (PCM), float32 in 0-1, the part that shows the image; None where the
    # prompts did not come from one
    confidence_map: NDArray[np.float32] | None
    model: str  # name of the bundle
    prompt_source: str  # name of the prompt source
    # how much of an edge each pixel is, float32 `[height, width]` in 0-1; None: nobody asked for it
    edge_map: NDArray[np.float32] | None = None
    status: Status = Status.COMPLETE  # whether a time budget left prompts undecoded

    def prompts_of(self, masks: Iterable[InstanceMask]) -> tuple[Prompt, ...]:
        """Return the prompts where only some masks stay: of the others', those are rejected."""

        def places(masks: Iterable[InstanceMask]) -> set[tuple[float, float]]:
            return {place for mask in masks for place in (mask.prompt, *mask.merged_prompts)}

        lost = places(self.masks) - places(masks)
        return tuple(
            replace(prompt, state=PromptState.REJECTED)
            if prompt.state == PromptState.KEPT and (prompt.x, prompt.y) in lost
            else prompt
            for prompt in self.prompts
        )

    def to_supervision(self) -> "supervision.Detections":
        """Return the masks as `Detections` of the library supervision, which has to be installed.

        Masks are bool `[N, height, width]`; `confidence` is their score, `tracker_id` their id,
        `class_id` the place of their label among the frame's, which `data["class_name"]` has.
        """
        from supervision import Detections

        inside = np.zeros((len(self.masks), self.height, self.width), np.bool_)
        for full, mask in zip(inside, self.masks, strict=True):
            x, y, w, h = mask.bbox
            runs = np.arange(mask.counts.size) % 2 == 1
            full[y : y + h, x : x + w] = np.repeat(runs, mask.counts).reshape(h, w)
        boxes = np.array([mask.bbox for mask in self.masks], np.float32).reshape(-1, 4)
        labels = np.array([mask.label for mask in self.masks], np.str_)
        return Detections(
            xyxy=np.hstack((boxes[:, :2], boxes[:, :2] + boxes[:, 2:])),
            mask=inside,
            confidence=np.array([mask.score for mask in self.masks], np.float32),
            class_id=np.unique(labels, return_inverse=True)[1],
            tracker_id=np.array([mask.id for mask in self.masks], np.int64),
            data={"class_name": labels},
        )
