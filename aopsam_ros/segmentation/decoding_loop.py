"""ASF's rounds: decode a batch of prompts, filter its masks and the remaining prompts, repeat."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.engines.base import Decoded
from aopsam_ros.geometry import FrameGeometry, paired_iou
from aopsam_ros.masks.selection import (
    MASK_THRESHOLD,
    LowResMasks,
    ScoreWeights,
    answering_masks,
    best_of_each_prompt,
    concatenate,
    count_pixels,
    filter_by_iou,
    filter_by_score,
    log_share,
    lowered,
    mask_corners,
    stability_score,
)
from aopsam_ros.options import SegmenterOptions
from aopsam_ros.prompting.features import FeatureMap
from aopsam_ros.prompting.filtering import RULES, FilterContext
from aopsam_ros.prompting.prompts import PromptSet
from aopsam_ros.prompting.user_prompts import BOTTOM_RIGHT, OBJECT, TOP_LEFT
from aopsam_ros.results import PromptState, Status
from aopsam_ros.segmentation.time_budget import Stopwatch, TimeBudget, spread_best

# Decodes coordinates `[n, K, 2]` and labels `[n, K]`, on masks `[n, 1, M, M]` if these are given.
Decode = Callable[..., Decoded]


@dataclass(frozen=True)
class DecodingLimits:
    """What bounds the batches of a frame."""

    adaptive: bool  # ASF filtering applies
    spread: bool  # a time budget may end the frame anywhere: prompts are spread over the image
    largest_batch: int | None  # most prompts that the engine decodes at once; None: any number
    low_size: int  # side M of the decoder's masks
    stability_offset: float  # of the stability score, in logits
    # what masks are scored by whose prompts have a predicted box; None: by predicted IoU, as others
    score_weights: ScoreWeights | None = None
    box_passes: int = 0  # further ones for prompts that are boxes, each on the mask before
    own_box_passes: int = 0  # further ones for masks that passed the filters, from their own boxes
    hysteresis: float = 0.0  # how much below the thresholds masks pass, as weak ones
    efficient_batch: int = 1  # prompts from which on the engine takes no less time for each


@dataclass(frozen=True)
class DecodedPrompts:
    """What decoding the prompts of a frame gave."""

    prompts: PromptSet  # of the frame, best first
    # a `PromptState` for each prompt, int64 `[N]`: REJECTED for all that were decoded, as
    # suppression has yet to decide which masks are kept
    states: NDArray[np.int64]
    masks: LowResMasks  # that passed the filters, in the order they were decoded
    num_decoded: int  # how many prompts were decoded
    status: Status  # whether the time budget left prompts undecoded


def decode_prompts(
    prompts: PromptSet,
    decode: Decode,
    features: Callable[[], FeatureMap],
    geometry: FrameGeometry,
    limits: DecodingLimits,
    options: SegmenterOptions,
    stopwatch: Stopwatch,
    budget: TimeBudget,
) -> DecodedPrompts:
    """Decode prompts in batches, best first, until none is left or the budget is spent.

    Where a time budget may end the frame, those of a source that says so are spread over the image,
    after the protected ones. `features` makes the feature map, and is called only if the filtering
    rule needs it. The time budget starts with the stopwatch; this frame's times are added to those
    of `budget`.

    Raises:
        InferenceError: if a graph fails.
    """
    loop = _Loop(prompts, decode, functools.cache(features), geometry, limits, options, stopwatch)
    remaining, last = loop.waiting(), None
    while size := loop.next_size(len(remaining), last, budget):
        began = stopwatch.elapsed()
        batch, remaining = remaining[:size], remaining[size:]
        remaining = loop.eliminate(loop.decode_batch(batch), remaining)
        seconds = stopwatch.elapsed() - began
        if last is None:
            budget.first_batch.add(size, seconds)
        last = size, seconds
    masks = concatenate(loop.found, limits.low_size)
    return DecodedPrompts(prompts, loop.states, masks, loop.num_decoded, loop.status)


@dataclass
class _Loop:
    """The state of `decode_prompts`; the first fields are its arguments."""

    prompts: PromptSet
    decode: Decode
    features: Callable[[], FeatureMap]
    geometry: FrameGeometry
    limits: DecodingLimits
    options: SegmenterOptions
    stopwatch: Stopwatch
    num_decoded: int = 0
    status: Status = Status.COMPLETE
    is_late: bool = False  # the budget was spent before the first batch
    found: list[LowResMasks] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.states = np.full(len(self.prompts.points), PromptState.UNUSED, np.int64)
        if self.prompts.duplicate is not None:
            self.states[self.prompts.duplicate] = PromptState.ELIMINATED
        has_boxes = self.limits.adaptive and self.prompts.boxes is not None
        mask, hysteresis = self.options.mask, self.limits.hysteresis
        self.lowest = lowered(mask, hysteresis) if hysteresis else mask
        self.weights = self.limits.score_weights if has_boxes else None
        self.valid = self.geometry.valid_cells(self.limits.low_size)
        cells = self.limits.low_size / self.geometry.image_size * self.geometry.scale
        self.cells_per_pixel = np.tile(cells, 2)  # of the source, for left, top, right, bottom
        self.rule = RULES.get(self.options.asf.filtering) if self.limits.adaptive else None

    def waiting(self) -> NDArray[np.int64]:
        """Return the prompts to decode, in that order."""
        waiting = np.flatnonzero(self.states == PromptState.UNUSED)
        if not (self.limits.spread and self.options.asf.time_budget_ms):
            return waiting
        first = np.searchsorted(waiting, self.prompts.num_protected)
        others, geometry = waiting[first:], self.geometry
        spread = spread_best(self.prompts.points[others], geometry.height, geometry.width)
        return np.concatenate((waiting[:first], others[spread]))

    def next_size(self, waiting: int, last: tuple[int, float] | None, budget: TimeBudget) -> int:
        """Return how many of the waiting prompts to decode next; 0 when the budget is spent."""
        asf, batch = self.options.asf, self.options.asf.batch_size
        if self.rule is None and not asf.time_budget_ms:  # nothing happens between batches
            batch = max(batch, self.limits.efficient_batch)
        largest = min(batch, self.limits.largest_batch or batch)
        size = min(largest, waiting, asf.max_prompts - self.num_decoded)
        if size == 0 or not asf.time_budget_ms:
            return size
        left = asf.time_budget_ms / 1e3 - self.stopwatch.elapsed()
        if last is None:
            self.is_late = left <= 0.0
            return budget.first_size(size, left)
        masks = sum(map(len, self.found))
        if left > 0.0 and budget.has_time(size, left, last, masks, self.num_decoded):
            return size
        self.status = Status.NO_TIME if self.is_late else Status.CUT
        return 0

    def decode_batch(self, batch: NDArray[np.int64]) -> LowResMasks:
        """Decode the prompts at these indices; return and keep the masks that pass the filters."""
        options = self.options.mask
        with self.stopwatch.stage("decoder"):
            points = as_decoder_input(self.prompts, batch)
            decoded = self.decode(*points)
            for _ in range(self.limits.box_passes if self.prompts.form == "box" else 0):
                decoded = self.decode(*points, _answers_to_boxes(decoded)[0][:, None])
            is_ambiguous = self.prompts.form == "point"
            # The best mask by score is known only when all of a prompt's masks have one.
            candidates = "all" if self.weights else options.candidates
            iou, least = decoded.predicted_iou, self.lowest.predicted_iou_threshold
            rows, columns = filter_by_iou(iou, least, candidates, is_ambiguous)
            logits = decoded.logits(rows, columns)  # some engines render masks only now
        self.num_decoded += len(batch)
        self.states[batch] = PromptState.REJECTED
        with self.stopwatch.stage("postprocess"):
            shown = logits[:, : self.valid[0], : self.valid[1]]
            stability = stability_score(shown, self.limits.stability_offset)
            iou = np.clip(iou[rows, columns], 0.0, 1.0)
            score = self._score(shown, iou, stability, batch[rows])
            strong = (
                (iou >= options.predicted_iou_threshold)
                & (stability >= options.stability_threshold)
                & (score >= options.score_threshold)
            )
            masks = LowResMasks(logits, iou, stability, score, batch[rows], columns, strong)
            if candidates != options.candidates:
                masks = best_of_each_prompt(masks, options.predicted_iou_threshold)
            found = filter_by_score(masks, self.lowest)
        if len(found):
            for _ in range(self.limits.own_box_passes):
                found = self._from_own_boxes(found)
            self.found.append(found)
        return found

    def _from_own_boxes(self, masks: LowResMasks) -> LowResMasks:
        """Decode masks again, each from its box: that leaves less doubt than the point before.

        A score that says how sure the prompt was stays; so does a mask whose box gives none.
        """
        geometry, step = self.geometry, self.limits.largest_batch or len(masks)
        before = masks.binary(*self.valid)
        edges = [geometry.width, geometry.height] * 2
        boxes = np.minimum(mask_corners(before) / self.cells_per_pixel, edges).reshape(-1, 2, 2)
        labels = np.tile(np.array([TOP_LEFT, BOTTOM_RIGHT], np.float32), (len(masks), 1))
        with self.stopwatch.stage("decoder"):
            parts = [slice(start, start + step) for start in range(0, len(masks), step)]
            answers = [_answers_to_boxes(self.decode(boxes[some], labels[some])) for some in parts]
            logits, predicted_iou = map(np.concatenate, zip(*answers, strict=True))
        with self.stopwatch.stage("postprocess"):
            shown = logits[:, : self.valid[0], : self.valid[1]]
            found = before.any((1, 2)) & (shown > MASK_THRESHOLD).any((1, 2))
            logits[~found] = masks.logits[~found]
            stability = stability_score(shown, self.limits.stability_offset)
            iou = np.where(found, np.clip(predicted_iou, 0.0, 1.0), masks.predicted_iou)
            score = iou if self.weights is None else masks.score
        return replace(masks, logits=logits, predicted_iou=iou, stability=stability, score=score)

    def _score(
        self,
        logits: NDArray[np.float32],
        predicted_iou: NDArray[np.float32],
        stability: NDArray[np.float32],
        prompts: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """Return the scores of masks of logits `[n, rows, columns]` of some prompts."""
        weights, boxes = self.weights, self.prompts.boxes
        if weights is None or boxes is None:
            return predicted_iou
        masks = logits > MASK_THRESHOLD
        agreement = paired_iou(mask_corners(masks), boxes[prompts] * self.cells_per_pixel)
        share = log_share(count_pixels(masks), masks[0].size if len(masks) else 1)
        confidence = self.prompts.confidence[prompts]
        return weights.score(predicted_iou, stability, confidence, agreement, share)

    def eliminate(self, found: LowResMasks, remaining: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the prompts that still have to be decoded after these masks were found."""
        asf, points = self.options.asf, self.prompts.points
        if self.rule is None or len(remaining) == 0:
            return remaining
        sure = np.flatnonzero(found.strong & (found.predicted_iou >= asf.elimination_iou))
        if len(sure) == 0:
            return remaining
        with self.stopwatch.stage("filtering"):
            context = FilterContext(
                features=self.features,
                geometry=self.geometry,
                low_size=self.limits.low_size,
                masks=found.binary(*self.valid)[sure],
                predicted_iou=found.predicted_iou[sure],
                prompts=found.prompt[sure],
                points=points[found.prompt[sure]],
                remaining=points[remaining],
            )
            dropped = self.rule(context, asf) & (remaining >= self.prompts.num_protected)
        self.states[remaining[dropped]] = PromptState.ELIMINATED
        return remaining[~dropped]


def _answers_to_boxes(decoded: Decoded) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return logits `[n, M, M]` of each prompt's mask that answers a box, and its predicted IoU."""
    iou = decoded.predicted_iou
    answers = answering_masks(iou.shape[1], is_ambiguous=False)
    rows, columns = np.arange(len(iou)), answers[np.argmax(iou[:, answers], axis=1)]
    return decoded.logits(rows, columns), iou[rows, columns]


def as_decoder_input(
    prompts: PromptSet, batch: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Return coordinates `[n, K, 2]` and labels `[n, K]` of the prompts at the indices `batch`."""
    parts: list[NDArray[np.float64]] = []
    labels: list[int] = []
    if prompts.form != "box":
        parts.append(prompts.points[batch, None])
        labels.append(OBJECT)
    if prompts.form != "point":
        assert prompts.boxes is not None  # whoever chose the form has them
        parts.append(prompts.boxes[batch].reshape(-1, 2, 2))
        labels += (TOP_LEFT, BOTTOM_RIGHT)
    return np.concatenate(parts, axis=1), np.tile(np.array(labels, np.float32), (len(batch), 1))
