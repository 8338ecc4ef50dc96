"""Fitting a model's scores: what the masks of labelled photographs are worth."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import spearmanr

from aopsam_ros.errors import DatasetError, OptionError
from aopsam_ros.evaluation.images import EvaluationImage
from aopsam_ros.evaluation.panoptic import mostly_unlabelled
from aopsam_ros.geometry import paired_iou
from aopsam_ros.masks.iou import crop_of, pairwise_iou
from aopsam_ros.masks.selection import ScoreWeights, log_share
from aopsam_ros.results import Segmentation
from aopsam_ros.segmentation.segmenter import Segmenter

# Every mask of every prompt, good or bad, counts.
ALL_MASKS = {
    "asf.prompts": "extents",
    "asf.filtering": "none",
    "asf.extent_overlap": 1.0,
    "asf.confidence_threshold": 0.05,
    "asf.time_budget_ms": 0,
    "mask.candidates": "all",
    "mask.predicted_iou_threshold": 0.0,
    "mask.stability_threshold": 0.0,
    "mask.score_threshold": 0.0,
    "mask.overlap_threshold": 1.0,
    "mask.granularity": "all",
    "mask.refine": 0,  # scores are given before
}
PENALTY = 1e-4  # on squared weights: photographs are few
LEAST_MASKS = 200


@dataclass(frozen=True)
class Calibration:
    """Weights, how many photographs and masks they are of, and how well scores rank the masks.

    `before` and `after` are rank correlations (Spearman) of predicted IoU and of the score with the
    masks' IoU.
    """

    weights: ScoreWeights
    photographs: int
    masks: int
    before: float
    after: float


def calibrate(segmenter: Segmenter, photographs: Iterable[EvaluationImage]) -> Calibration:
    """Fit the weights of a model's scores to photographs that it was not trained on.

    Raises:
        OptionError: if the model gives no extents.
        DatasetError: if there are too few masks.
    """
    options = segmenter.options.updated(ALL_MASKS)
    samples = []
    for photograph in photographs:
        found = segmenter.segment(photograph.rgb, options)
        if any(prompt.box is None for prompt in found.prompts):
            raise OptionError(f"the predictor of '{segmenter.bundle.name}' gives no extents")
        samples.append(_samples(found, photograph))
    values, iou, weight = (np.concatenate(some) for some in zip(*samples, strict=True))
    if len(iou) < LEAST_MASKS:
        raise DatasetError(f"{len(iou)} masks are too few to calibrate scores on: {LEAST_MASKS}")
    weights = fit(values, iou, weight)
    score = weights.score(*values.T)
    before, after = (float(spearmanr(some, iou)[0]) for some in (values[:, 0], score))
    return Calibration(weights, len(samples), len(iou), before, after)


def fit(
    values: NDArray[np.float64], iou: NDArray[np.float64], weight: NDArray[np.float64]
) -> ScoreWeights:
    """Fit a logistic regression to what masks are worth, their IoU, `[n]` in 0-1.

    `values` are predicted IoU, stability, confidence, agreement with the extents and `log_share`,
    `[n, 5]`; `weight` is how much each mask counts, `[n]`.
    """
    found = logistic_regression(values, iou, weight)
    return ScoreWeights(*(round(float(value), 4) for value in found))


def logistic_regression(
    values: NDArray[np.float64], target: NDArray[np.float64], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the bias and a weight of each column, `[1 + k]`, that predict targets in 0-1.

    `values` are `[n, k]`, `target` `[n]`, `weight` how much each row counts, `[n]`.
    """
    inputs = np.hstack((np.ones((len(values), 1)), values))
    share = weight / weight.sum()

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logit = inputs @ weights
        error = expit(logit) - target
        penalised = np.append(0.0, weights[1:])
        value = share @ (np.logaddexp(0.0, logit) - target * logit)
        value += PENALTY * penalised @ penalised
        return float(value), inputs.T @ (error * share) + 2 * PENALTY * penalised

    start = np.zeros(inputs.shape[1])
    return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B").x, np.float64)


def _samples(
    found: Segmentation, photograph: EvaluationImage
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return values, IoU and weight of a photograph's masks; all photographs weigh the same.

    A mask mostly on unlabelled pixels may show a thing that nobody labelled: it does not count.
    """
    masks = [crop_of(mask) for mask in found.masks]
    counts = ~mostly_unlabelled(masks, photograph.ground_truth)
    iou = pairwise_iou(masks, [crop_of(mask) for mask in photograph.ground_truth])
    boxes = {(prompt.x, prompt.y): prompt.box for prompt in found.prompts}
    areas = np.array([mask.area for mask in found.masks], np.int64)
    shares = log_share(areas, found.height * found.width).tolist()
    rows = [
        (
            mask.predicted_iou,
            mask.stability_score,
            mask.prompt_confidence,
            float(paired_iou(np.array(mask.corners), np.array(boxes[mask.prompt]))),
            share,
        )
        for mask, share in zip(found.masks, shares, strict=True)
    ]
    values = np.array(rows, np.float64).reshape(-1, 5)[counts]
    return values, iou.max(axis=1)[counts], np.full(len(values), 1.0 / max(1, len(values)))
