"""Panoptic quality without classes (Kirillov et al., arXiv 1801.00868)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.evaluation.metrics import match_one_to_one
from aopsam_ros.masks.iou import Crop

MATCH_IOU = 0.5


def count_panoptic(iou: NDArray[np.float64], unlabelled: NDArray[np.bool_]) -> dict[str, float]:
    """Count one image's matches and errors, which add up over images.

    Predicted masks may overlap, so that several can reach one ground-truth mask: the best pair is
    matched first, and the others are false positives.

    Args:
        iou: `[predicted, ground truth]`.
        unlabelled: predicted masks that lie mostly on unlabelled pixels, bool `[predicted]`; they
            are no false positives.

    Returns:
        matched: pairs with an IoU above 0.5.
        matched_iou: sum of their IoU.
        false_positives: predicted masks without a partner.
        missed: ground-truth masks without a partner.
    """
    pairs = [pair for pair in match_one_to_one(iou) if iou[pair] > MATCH_IOU]
    wrong = ~unlabelled
    wrong[[row for row, _ in pairs]] = False
    return {
        "matched": len(pairs),
        "matched_iou": float(sum(iou[pair] for pair in pairs)),
        "false_positives": int(np.count_nonzero(wrong)),
        "missed": iou.shape[1] - len(pairs),
    }


def panoptic_quality(
    matched: float, matched_iou: float, false_positives: float, missed: float
) -> dict[str, float]:
    """Return SQ, the pairs' mean IoU, RQ, the F1 score of the matching, and PQ = SQ x RQ, 0-1."""
    if not matched:
        return {"pq": 0.0, "sq": 0.0, "rq": 0.0}
    sq, rq = matched_iou / matched, matched / (matched + (false_positives + missed) / 2)
    return {"pq": sq * rq, "sq": sq, "rq": rq}


def mostly_unlabelled(
    masks: Sequence[Crop], ground_truth: Sequence[NDArray[np.bool_]]
) -> NDArray[np.bool_]:
    """Tell the masks of which more than half lies outside all ground truth, bool `[masks]`."""
    labelled = np.logical_or.reduce(ground_truth)
    on_labels = [
        np.count_nonzero(pixels & labelled[y : y + h, x : x + w])
        for (x, y, w, h), pixels, _ in masks
    ]
    return 2 * np.array(on_labels, np.int64) < [mask.area for mask in masks]
