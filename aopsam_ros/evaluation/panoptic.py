"""Panoptic quality without classes (Kirillov et al., arXiv 1801.00868)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.evaluation.metrics import Crop, match_one_to_one

MATCH_IOU = 0.5


@dataclass(frozen=True)
class PanopticCounts:
    """What panoptic quality is made of; counts of several images add up.

    Attributes:
        matched: Pairs of a predicted and a ground-truth mask with an IoU above 0.5.
        matched_iou: Sum of their IoU.
        false_positives: Predicted masks without a partner; one that lies mostly on unlabelled
            pixels does not count.
        missed: Ground-truth masks without a partner.
    """

    matched: int = 0
    matched_iou: float = 0.0
    false_positives: int = 0
    missed: int = 0

    def __add__(self, other: PanopticCounts) -> PanopticCounts:
        return PanopticCounts(
            self.matched + other.matched,
            self.matched_iou + other.matched_iou,
            self.false_positives + other.false_positives,
            self.missed + other.missed,
        )

    @property
    def segmentation_quality(self) -> float:
        """SQ: mean IoU of the matched pairs, 0-1; 0 without any."""
        return self.matched_iou / self.matched if self.matched else 0.0

    @property
    def recognition_quality(self) -> float:
        """RQ: F1 score of the matching, 0-1."""
        errors = self.false_positives + self.missed
        return self.matched / (self.matched + errors / 2) if self.matched else 0.0

    @property
    def panoptic_quality(self) -> float:
        """PQ = SQ x RQ, 0-1."""
        return self.segmentation_quality * self.recognition_quality


def count_panoptic(iou: NDArray[np.float64], unlabelled: NDArray[np.bool_]) -> PanopticCounts:
    """Count one image's matches and errors.

    Predicted masks may overlap, so that several can reach one ground-truth mask: the best pair is
    matched first, and the others are false positives.

    Args:
        iou: `[predicted, ground truth]`.
        unlabelled: predicted masks that lie mostly on unlabelled pixels, bool `[predicted]`.
    """
    pairs = [pair for pair in match_one_to_one(iou) if iou[pair] > MATCH_IOU]
    partnerless = np.ones(len(unlabelled), np.bool_)
    partnerless[[row for row, _ in pairs]] = False
    return PanopticCounts(
        matched=len(pairs),
        matched_iou=float(sum(iou[pair] for pair in pairs)),
        false_positives=int(np.count_nonzero(partnerless & ~unlabelled)),
        missed=iou.shape[1] - len(pairs),
    )


def mostly_unlabelled(
    masks: Sequence[Crop], ground_truth: Sequence[NDArray[np.bool_]]
) -> NDArray[np.bool_]:
    """Tell the masks of which more than half lies outside all ground truth, bool `[masks]`."""
    labelled = np.logical_or.reduce(ground_truth)
    found = np.zeros(len(masks), np.bool_)
    for index, ((x, y, w, h), pixels, area) in enumerate(masks):
        on_labels = np.count_nonzero(pixels & labelled[y : y + h, x : x + w])
        found[index] = 2 * on_labels < area
    return found
