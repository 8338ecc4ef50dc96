"""Masks for a prompt of the user's own: points, a box, or both; further points refine them."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.geometry import FrameGeometry
from aopsam_ros.masks.selection import answering_masks, stability_score
from aopsam_ros.masks.upscaling import Upscaler
from aopsam_ros.options import SegmenterOptions
from aopsam_ros.prompting.user_prompts import UserPrompt
from aopsam_ros.results import InstanceMask, Prompt, PromptState, Segmentation
from aopsam_ros.segmentation.answers import answer_of
from aopsam_ros.segmentation.segmenter import FrameEmbedding, Segmenter
from aopsam_ros.segmentation.time_budget import Stopwatch

MASK_LOGIT = 6.0  # of a mask input where the mask fills a cell, or does not touch it


class Answer(NamedTuple):
    """The masks of a prompt, best first, and the logits `[M, M]` of the best one."""

    masks: tuple[InstanceMask, ...]
    logits: NDArray[np.float32]


class Refinement:
    """Prompts on one image that is encoded once; further points begin with the mask before.

    Attributes:
        size: height and width of the image.
        geometry: how it lies in the encoder's square.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        rgb: NDArray[np.uint8],
        options: SegmenterOptions | None = None,
    ) -> None:
        """Encode an image, uint8 `[H, W, 3]`; arguments and errors as of `Segmenter.encode`."""
        self._segmenter = segmenter
        self._frame = segmenter.encode(rgb, options)
        self._is_newest = True  # nothing else was encoded since
        self._before: tuple[UserPrompt, Answer] | None = None
        self.size: tuple[int, int] = (rgb.shape[0], rgb.shape[1])
        self.geometry = self._frame.geometry

    def answer(self, prompt: UserPrompt, all_masks: bool = False) -> tuple[InstanceMask, ...]:
        """Decode a prompt; arguments and errors as `segment_prompt`."""
        if not self._is_newest:
            self._frame = self._segmenter.restored(self._frame)
        self._is_newest, previous = False, None
        if self._before is not None and prompt.continues(self._before[0]):
            previous = self._before[1].logits
        found = segment_prompt(self._segmenter, self._frame, prompt, all_masks, previous)
        self._before = prompt, found
        return found.masks


def segment_clicks(
    segmenter: Segmenter, rgb: NDArray[np.uint8], prompt: UserPrompt
) -> Segmentation:
    """Segment what a prompt means, its points one after another, each on the mask before.

    The first point is on the object, unless the prompt has a box.

    Raises:
        InputError, InferenceError: as `segment_prompt`.
    """
    watch = Stopwatch()
    with watch.stage("encoder"):
        refinement = Refinement(segmenter, rgb)
    prompt = prompt.inside(refinement.geometry)
    masks: tuple[InstanceMask, ...] = ()
    counts = range(0 if len(prompt.points) == 0 else 1, len(prompt.points) + 1)
    with watch.stage("decoder"):
        for count in counts:
            some = replace(prompt, points=prompt.points[:count], labels=prompt.labels[:count])
            masks = refinement.answer(some)
    state = PromptState.KEPT if masks else PromptState.REJECTED
    return Segmentation(
        height=rgb.shape[0],
        width=rgb.shape[1],
        masks=masks,
        prompts=(Prompt(*prompt.anchor, 1.0, state, prompt.box),),
        prompts_decoded=len(counts),
        timings_ms=watch.timings_ms(),
        confidence_map=None,
        model=segmenter.bundle.name,
        prompt_source="user",
    )


def segment_prompt(
    segmenter: Segmenter,
    frame: FrameEmbedding,
    prompt: UserPrompt,
    all_masks: bool = False,
    previous: NDArray[np.float32] | None = None,
) -> Answer:
    """Decode one prompt on an encoded image.

    Args:
        segmenter: the model.
        frame: from its `encode`, the last one.
        prompt: what is meant on it.
        all_masks: the model's three answers instead of the best one; see `best_answer`.
        previous: logits `[M, M]` to begin with, where the prompt brings no mask. Like its mask they
            are left out where the decoder has no mask input.

    Returns:
        the masks that are not empty, by descending predicted IoU, numbered from 1.

    Raises:
        InputError: if the prompt lies outside the image.
        InferenceError: if the graph fails, or takes fewer points.
    """
    inside = prompt.inside(frame.geometry)
    if inside.mask is not None:
        previous = mask_logits(inside.mask, frame.geometry, segmenter.bundle.low_res_mask_size)
    if previous is not None and not segmenter.engine.accepts_mask_input:
        previous = None
    mask_input = None if previous is None else previous[None, None]
    logits, predicted_iou = segmenter.decode(frame, *inside.as_decoder_input(), mask_input)
    is_ambiguous = previous is None and inside.box is None and len(inside.points) == 1
    if all_masks:
        answers = answering_masks(predicted_iou.shape[1], is_ambiguous=True)
        order = answers[np.argsort(-predicted_iou[0, answers], kind="stable")]
        found = logits[0, order]
    else:
        clicks = inside.points, inside.labels, frame.geometry
        best, mask = answer_of(logits[0], predicted_iou[0], *clicks, is_ambiguous, previous)
        order, found = np.array([best]), mask[None]
    masks = upscaled(segmenter, frame.geometry, found, predicted_iou[0, order], inside.anchor)
    shown = [mask for mask in masks if mask.area]
    return Answer(tuple(replace(m, id=index) for index, m in enumerate(shown, 1)), found[0])


def upscaled(
    segmenter: Segmenter,
    geometry: FrameGeometry,
    logits: NDArray[np.float32],
    predicted_iou: NDArray[np.float32],
    prompt: tuple[float, float],
) -> list[InstanceMask]:
    """Return masks of one prompt, logits `[n, M, M]`, at the source's resolution, with id 0."""
    rows, columns = geometry.valid_cells(logits.shape[-1])
    offset = segmenter.bundle.stability_offset
    stability = stability_score(logits[:, :rows, :columns], offset).tolist()
    scores = np.clip(predicted_iou, 0.0, 1.0).tolist()
    encoded = Upscaler(geometry, logits.shape[-1])(logits)
    return [
        InstanceMask(
            id=0,
            bbox=mask.bbox,
            area=mask.area,
            predicted_iou=score,
            stability_score=stable,
            prompt=prompt,
            prompt_confidence=1.0,
            label="",
            counts=mask.counts,
            score=score,
        )
        for mask, score, stable in zip(encoded, scores, stability, strict=True)
    ]


def mask_logits(mask: NDArray[np.bool_], geometry: FrameGeometry, side: int) -> NDArray[np.float32]:
    """Return a mask of the image, bool `[H, W]`, as logits `[side, side]` over the padded square.

    They are the log-odds of the share of each cell that the mask fills.
    """
    rows, columns = geometry.valid_cells(side)
    shrunk = cv2.resize(mask.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA)
    share = np.clip(shrunk, 1e-6, 1 - 1e-6)
    logits = np.full((side, side), -MASK_LOGIT, np.float32)
    logits[:rows, :columns] = np.clip(np.log(share / (1 - share)), -MASK_LOGIT, MASK_LOGIT)
    return logits
