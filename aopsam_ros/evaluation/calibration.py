"""Calibration of the masks' scores: is a mask of score 0.8 one with an IoU of 0.8?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BINS = 10


@dataclass(frozen=True)
class ScoreBin:
    """The masks whose score lies in one tenth of 0-1: mean score, mean IoU, and how many."""

    score: float
    iou: float
    masks: int


def reliability(scores: Sequence[float], ious: Sequence[float]) -> tuple[ScoreBin, ...]:
    """Sort masks into ten bins by score; bins without a mask are left out.

    Args:
        scores: of the masks, 0-1.
        ious: of each mask with its closest ground-truth one.
    """
    score, iou = np.asarray(scores, np.float64), np.asarray(ious, np.float64)
    bins = np.clip((score * BINS).astype(np.int64), 0, BINS - 1)
    members = [bins == number for number in np.unique(bins)]
    return tuple(
        ScoreBin(float(score[inside].mean()), float(iou[inside].mean()), int(inside.sum()))
        for inside in members
    )


def expected_calibration_error(bins: Sequence[ScoreBin]) -> float | None:
    """Mean distance of score and IoU over the bins, weighted by their masks; None without any."""
    total = sum(each.masks for each in bins)
    if not total:
        return None
    return sum(each.masks * abs(each.score - each.iou) for each in bins) / total
