"""Which of the decoder's masks are kept: by predicted IoU and by stability, at low resolution."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.options import MaskOptions

LEAST_SHARE = 1e-4  # of an image: one or two pixels of a mask at the decoder's resolution
THRESHOLDS = ("predicted_iou_threshold", "stability_threshold", "score_threshold")
MASK_THRESHOLD = 0.0  # a pixel belongs to a mask where its logit is above this


@dataclass(frozen=True)
class LowResMasks:
    """Masks at the decoder's resolution, one row each."""

    logits: NDArray[np.float32]  # float32 `[n, M, M]` over the padded square
    predicted_iou: NDArray[np.float32]  # float32 `[n]` in 0-1
    stability: NDArray[np.float32]  # stability score, float32 `[n]` in 0-1
    score: NDArray[np.float32]  # what masks are ranked by, float32 `[n]` in 0-1; see `ScoreWeights`
    prompt: NDArray[np.int64]  # index of the prompt that a mask comes from, int64 `[n]`
    candidate: NDArray[np.int64]  # which of that prompt's three masks it is, int64 `[n]`
    strong: NDArray[np.bool_]  # bool `[n]`; False: only thresholds `lowered` let it pass

    def __len__(self) -> int:
        """Return the number of masks."""
        return len(self.prompt)

    def binary(self, rows: int, columns: int) -> NDArray[np.bool_]:
        """Threshold the top left `rows` x `columns`, the part that shows the image."""
        return self.logits[:, :rows, :columns] > MASK_THRESHOLD

    def take(self, indices: NDArray[np.int64]) -> LowResMasks:
        """Return the masks at `indices`, in that order."""
        return LowResMasks(*(values[indices] for values in vars(self).values()))

    def where(self, good: NDArray[np.bool_]) -> LowResMasks:
        """Return the masks that are `good`, bool `[n]`; these ones, not copied, if all are."""
        return self if good.all() else self.take(np.flatnonzero(good))


def concatenate(parts: Sequence[LowResMasks], size: int) -> LowResMasks:
    """Join the masks of several batches; `size` is M, for when there are none."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        none = np.zeros(0, np.float32)
        empty = np.zeros((0, size, size), np.float32)
        index = none.astype(np.int64)
        return LowResMasks(empty, none, none, none, index, index, none > 0)
    columns = zip(*(vars(part).values() for part in parts), strict=True)
    return LowResMasks(*map(np.concatenate, columns))


def stability_score(logits: Iterable[NDArray[np.float32]], offset: float) -> NDArray[np.float32]:
    """IoU of a mask cut at a high and at a low threshold: how little its outline depends on it.

    SAM's stability score (segment-anything, `calculate_stability_score`): the mask at threshold
    +offset lies inside the one at -offset, so their IoU is the ratio of their areas. SAM takes it
    at full resolution; at low resolution it costs a sixteenth or less. Logits are `[n, rows,
    columns]`, the part that shows the image; the score of a mask empty at both thresholds is 0.
    """
    scores = []
    for mask in logits:
        inner = np.count_nonzero(mask > MASK_THRESHOLD + offset)
        outer = np.count_nonzero(mask > MASK_THRESHOLD - offset)
        scores.append(inner / outer if outer else 0.0)
    return np.array(scores, np.float32)


def count_pixels(masks: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the number of pixels set in each mask `[n, ...]`, int64 `[n]`."""
    # NumPy counts a whole array ten times faster than along an axis.
    return np.array([np.count_nonzero(mask) for mask in masks], np.int64)


def answering_masks(num_masks: int, is_ambiguous: bool) -> NDArray[np.int64]:
    """Return which of a prompt's masks answer it, int64 `[n]`.

    Of four masks the first is SAM's single one, for a prompt that leaves no doubt; the others are
    for a single point. Of three, all are.
    """
    if num_masks <= 3:
        return np.arange(num_masks)
    return np.arange(1, num_masks) if is_ambiguous else np.zeros(1, np.int64)


def filter_by_iou(
    predicted_iou: NDArray[np.float32], threshold: float, candidates: str, is_ambiguous: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Choose among each prompt's masks, `[N, M]`, those of enough predicted IoU.

    With `candidates` "best" a prompt's mask is the one of the highest predicted IoU (the first of
    equals), as SAM's predictor does for a single answer; with "all" its masks compete, as in SAM's
    automatic generator. `is_ambiguous` is as in `answering_masks`.

    Returns:
        row and column in `predicted_iou` of each mask, int64 `[n]`.
    """
    prompts, masks = predicted_iou.shape
    answers = answering_masks(masks, is_ambiguous)
    if candidates == "all":
        rows, columns = np.repeat(np.arange(prompts), len(answers)), np.tile(answers, prompts)
    else:
        rows = np.arange(prompts)
        columns = answers[np.argmax(predicted_iou[:, answers], axis=1)]
    good = predicted_iou[rows, columns] >= threshold
    return rows[good], columns[good]


def lowered(options: MaskOptions, by: float) -> MaskOptions:
    """Return options with thresholds of a mask's quality that are so much lower."""
    return replace(options, **{name: max(0.0, getattr(options, name) - by) for name in THRESHOLDS})


def best_of_each_prompt(masks: LowResMasks, threshold: float) -> LowResMasks:
    """Keep the mask of the highest score of each prompt (the first of equals).

    Those whose predicted IoU reaches the threshold go before.
    """
    order = np.lexsort((-masks.score, masks.predicted_iou < threshold, masks.prompt))
    _, first = np.unique(masks.prompt[order], return_index=True)
    return masks.take(order[first])


def filter_by_score(masks: LowResMasks, options: MaskOptions) -> LowResMasks:
    """Keep the masks whose stability score and score reach `options`' thresholds."""
    good = masks.stability >= options.stability_threshold
    return masks.where(good & (masks.score >= options.score_threshold))


def log_share(pixels: NDArray[np.int64], image: int) -> NDArray[np.float64]:
    """Return the natural logarithm of the share of an image that masks cover, `[n]`.

    Below a share of `LEAST_SHARE` it says nothing more.
    """
    return np.log(np.maximum(pixels / image, LEAST_SHARE))


@dataclass(frozen=True)
class ScoreWeights:
    """Logistic regression that gives a mask's expected IoU with a thing; fitted for one model.

    Each number but the intercept is the weight of a value: `extents` of the IoU of the mask's box
    with the box that the predictor expects; `area` of the logarithm of the share of the image that
    the mask covers (a thing of few cells is seen less well); the others of what they are called
    after, in 0-1.
    """

    intercept: float
    predicted_iou: float
    stability: float
    confidence: float
    extents: float
    area: float = 0.0

    def score(
        self,
        predicted_iou: NDArray[np.float32],
        stability: NDArray[np.float32],
        confidence: NDArray[np.float32],
        extents: NDArray[np.float64],
        area: NDArray[np.float64],
    ) -> NDArray[np.float32]:
        """Return the scores of n masks, float32 `[n]` in 0-1; all values are `[n]`.

        `area` is `log_share` of the masks.
        """
        logit = (
            self.intercept
            + self.predicted_iou * predicted_iou
            + self.stability * stability
            + self.confidence * confidence
            + self.extents * extents
            + self.area * area
        )
        return np.asarray(1.0 / (1.0 + np.exp(-logit)), np.float32)


def mask_corners(masks: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return left, top, right, bottom (exclusive) of each mask `[n, 4]`; zeros where empty."""
    rows = np.asarray(masks.any(axis=2), np.bool_)
    columns = np.asarray(masks.any(axis=1), np.bool_)
    left, top = columns.argmax(axis=1), rows.argmax(axis=1)
    right = masks.shape[2] - columns[:, ::-1].argmax(axis=1)
    bottom = masks.shape[1] - rows[:, ::-1].argmax(axis=1)
    boxes = np.stack((left, top, right, bottom), axis=1)
    boxes[np.logical_not(rows.any(axis=1))] = 0
    return boxes.astype(np.int64)
