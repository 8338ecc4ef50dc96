"""Calibration of the masks' scores: is a mask of score 0.8 one with an IoU of 0.8?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

BINS = 10
ScoreBin = Mapping[str, float]  # mean "score" and "iou" of the "masks" in one tenth of the scores


def reliability(scores: Sequence[float], ious: Sequence[float]) -> list[ScoreBin]:
    """Sort masks into ten bins by score; bins without a mask are left out.

    Args:
        scores: of the masks, 0-1.
        ious: of each mask with its closest ground-truth one.
    """
    score, iou = np.asarray(scores, np.float64), np.asarray(ious, np.float64)
    bins = np.clip((score * BINS).astype(np.int64), 0, BINS - 1)
    members = [bins == number for number in np.unique(bins)]
    return [
        {
            "score": float(score[inside].mean()),
            "iou": float(iou[inside].mean()),
            "masks": int(inside.sum()),
        }
        for inside in members
    ]


def expected_calibration_error(bins: Sequence[ScoreBin]) -> float | None:
    """Mean distance of score and IoU over the bins, weighted by their masks; None without any."""
    if not bins:
        return None
    distances = [abs(each["score"] - each["iou"]) for each in bins]
    return float(np.average(distances, weights=[each["masks"] for each in bins]))
