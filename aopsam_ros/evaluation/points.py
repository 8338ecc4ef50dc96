"""The promptable model on its own: one point a mask, how good are the masks and the choice?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.data.datasets import LabelledImage
from aopsam_ros.evaluation.metrics import instance_masks
from aopsam_ros.masks.upscaling import Upscaler
from aopsam_ros.segmentation.segmenter import Segmenter
from aopsam_ros.training.prompt_sampling import innermost_pixel

DECODED_AT_ONCE = 16


@dataclass(frozen=True)
class PointResult:
    """Mean IoU over one photograph's instances.

    Attributes:
        best: Of the best of the three masks.
        chosen: Of the mask with the highest predicted IoU.
        instances: How many were asked for.
    """

    best: float
    chosen: float
    instances: int


def prompt_points(
    masks: list[NDArray[np.bool_]], where: str, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Pick one point a mask, `[N, 2]`: the innermost pixel (`centre`) or any (`random`)."""
    if where == "centre":
        return np.array([innermost_pixel(mask) for mask in masks], np.float64)
    points = []
    for mask in masks:
        rows, columns = np.nonzero(mask)
        pick = rng.integers(len(rows))
        points.append((columns[pick], rows[pick]))
    return np.array(points, np.float64)


def evaluate_points(
    segmenter: Segmenter, image: LabelledImage, where: str, rng: np.random.Generator
) -> PointResult | None:
    """Prompt every counted instance of a photograph with one point; None if it has none."""
    masks = instance_masks(image.layers)
    if not masks:
        return None
    frame = segmenter.encode(image.rgb)
    points = prompt_points(masks, where, rng)[:, None, :]
    best, chosen = [], []
    for start in range(0, len(masks), DECODED_AT_ONCE):
        some = points[start : start + DECODED_AT_ONCE]
        logits, predicted = segmenter.decode(frame, some, np.ones(some.shape[:2]))
        upscale = Upscaler(frame.geometry, logits.shape[-1])
        for index, truth in enumerate(masks[start : start + DECODED_AT_ONCE]):
            ious = [_iou(upscale, mask, truth) for mask in logits[index]]
            best.append(max(ious))
            chosen.append(ious[int(predicted[index].argmax())])
    return PointResult(float(np.mean(best)), float(np.mean(chosen)), len(masks))


def _iou(upscale: Upscaler, logits: NDArray[np.float32], truth: NDArray[np.bool_]) -> float:
    (x, y, w, h), mask = upscale.pixels(logits)
    overlap = float((truth[y : y + h, x : x + w] & mask).sum())
    return overlap / float(truth.sum() + mask.sum() - overlap)


def mean(results: Iterable[PointResult]) -> PointResult:
    """Average over photographs, each counting once."""
    all_results = list(results)
    return PointResult(
        float(np.mean([r.best for r in all_results])),
        float(np.mean([r.chosen for r in all_results])),
        sum(r.instances for r in all_results),
    )
