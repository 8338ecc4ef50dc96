"""Which of a prompt's masks answers it, and what a further click may change of the mask before."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.geometry import FrameGeometry
from aopsam_ros.masks.selection import MASK_THRESHOLD, answering_masks
from aopsam_ros.prompting.user_prompts import BACKGROUND, OBJECT

SINGLE_ADVANTAGE = 0.1  # of SAM's single mask over the others, in IoU
CLICK_REACH = 3 / 128  # of the square's side: changes so near to a click are what it asks for


def answer_of(
    logits: NDArray[np.float32],
    predicted_iou: NDArray[np.float32],
    points: NDArray[np.float64],
    labels: NDArray[Any],
    geometry: FrameGeometry,
    is_ambiguous: bool,
    previous: NDArray[np.float32] | None,
) -> tuple[int, NDArray[np.float32]]:
    """Return which of a prompt's M masks answers it, and its logits, merged with the mask before.

    Args:
        logits: of the masks, `[M, side, side]`.
        predicted_iou: of the masks, `[M]`.
        points: `[K, 2]`, x and y in source pixels.
        labels: `[K]`: 1 on the object, 0 beside it; others are no clicks.
        geometry: of the frame.
        is_ambiguous: whether the prompt is a single point.
        previous: logits of the mask before, `[side, side]`; None: there is none.
    """
    met = clicks_met(logits, points, labels, geometry)
    agreement = None if previous is None else agreement_with(previous, logits)
    best = best_answer(predicted_iou, met, is_ambiguous, agreement)
    if previous is None:
        return best, logits[best]
    return best, merge_changes(previous, logits[best], points, labels, geometry)


def clicks_met(
    logits: NDArray[np.float32],
    points: NDArray[np.float64],
    labels: NDArray[Any],
    geometry: FrameGeometry,
) -> NDArray[np.int64]:
    """Count the clicks that each mask meets, `[M]`: holds those on the object, none beside it."""
    x, y, is_on_object = _clicked_cells(points, labels, geometry, logits.shape[-1])
    inside = logits[:, y, x] > MASK_THRESHOLD
    return np.asarray(np.count_nonzero(inside == is_on_object, axis=1))


def agreement_with(
    previous: NDArray[np.float32], logits: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the IoU of masks with the one before, logits `[M, side, side]` and `[side, side]`."""
    before, masks = previous > MASK_THRESHOLD, logits > MASK_THRESHOLD
    both = np.count_nonzero(masks & before, axis=(1, 2))
    return both / np.maximum(np.count_nonzero(masks | before, axis=(1, 2)), 1)


def best_answer(
    predicted_iou: NDArray[np.float32],
    met: NDArray[np.int64],
    is_ambiguous: bool,
    agreement: NDArray[np.float64] | None = None,
) -> int:
    """Return which of a prompt's M masks answers it: of those that meet most clicks, the best.

    It is the one of the highest predicted IoU and `agreement` with the mask before, as a click
    corrects a part. Of four masks the first, SAM's single one, has an advantage, and comes before
    the others where there is no mask before; a single click is answered by one of the others.
    """
    answers = answering_masks(len(met), is_ambiguous)
    candidates = answers if is_ambiguous else np.arange(len(met))
    is_single, score = np.isin(candidates, answers), predicted_iou[candidates]
    if agreement is None:
        ranks = np.lexsort((-score, ~is_single, -met[candidates]))
    else:
        score = score + agreement[candidates] + SINGLE_ADVANTAGE * is_single
        ranks = np.lexsort((-score, -met[candidates]))
    return int(candidates[ranks[0]])


def merge_changes(
    previous: NDArray[np.float32],
    logits: NDArray[np.float32],
    points: NDArray[np.float64],
    labels: NDArray[Any],
    geometry: FrameGeometry,
) -> NDArray[np.float32]:
    """Return a mask that differs from the one before only where a click asks for it.

    A click that the mask before did not meet asks for the changed regions that reach it, within
    `CLICK_REACH`; elsewhere the mask before stays. This is FocalClick's progressive merge
    (arXiv 2204.02574). Where no change lies at such a click, the new mask stays as it is.
    """
    side = logits.shape[-1]
    before = previous > MASK_THRESHOLD
    changed = before != (logits > MASK_THRESHOLD)
    x, y, is_on_object = _clicked_cells(points, labels, geometry, side)
    reached = np.zeros((side, side), np.uint8)
    for cell in np.transpose([x, y])[before[y, x] != is_on_object].tolist():
        cv2.circle(reached, cell, round(CLICK_REACH * side), 1, cv2.FILLED)
    _, regions = cv2.connectedComponents(changed.astype(np.uint8))
    wanted = np.unique(regions[changed & (reached > 0)])
    if not len(wanted):
        return logits
    return np.where(changed & ~np.isin(regions, wanted), previous, logits)


def _clicked_cells(
    points: NDArray[np.float64], labels: NDArray[Any], geometry: FrameGeometry, side: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Columns and rows of the clicks' cells, and which clicks are on the object."""
    clicks = np.isin(labels, (BACKGROUND, OBJECT))
    cells = np.rint(geometry.to_cells(points[clicks], side)).astype(np.int64)
    x, y = np.clip(cells, 0, side - 1).T
    return x, y, labels[clicks] == OBJECT
