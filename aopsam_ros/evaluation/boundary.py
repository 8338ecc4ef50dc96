"""Boundary IoU (Cheng et al., arXiv 2103.16562): how well outlines agree, whatever the size."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.evaluation.metrics import match_one_to_one
from aopsam_ros.masks.iou import Crop

WIDTH_SHARE = 0.02  # of the image's diagonal: how far inside an outline pixels still belong to it


def boundary_region(mask: Crop, width: int) -> NDArray[np.bool_]:
    """Return a mask's pixels at most `width` from its outside, bool `[h, w]` inside its box.

    Beyond the image's border is outside, as in the authors' code.
    """
    padded = np.pad(mask.pixels.astype(np.uint8), 1)
    kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    inner = cv2.erode(padded, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return mask.pixels & (inner[1:-1, 1:-1] == 0)


def boundary_iou(first: Crop, second: Crop, width: int) -> float:
    """IoU of two masks' boundary regions, 0-1."""
    left, top = (min(first.box[axis], second.box[axis]) for axis in (0, 1))
    right, bottom = (
        max(crop.box[axis] + crop.box[axis + 2] for crop in (first, second)) for axis in (0, 1)
    )
    regions = np.zeros((2, bottom - top, right - left), np.bool_)
    for region, crop in zip(regions, (first, second), strict=True):
        x, y, w, h = crop.box
        region[y - top : y - top + h, x - left : x - left + w] = boundary_region(crop, width)
    either = int(np.count_nonzero(regions.any(0)))
    return int(np.count_nonzero(regions.all(0))) / either if either else 0.0


def mean_boundary_iou(
    masks: Sequence[Crop],
    ground_truth: Sequence[Crop],
    iou: NDArray[np.float64],
    size: tuple[int, int],
) -> float:
    """Mean boundary IoU over the ground truth, matched one-to-one by mask IoU; unmatched count 0.

    Args:
        masks: predicted.
        ground_truth: at least one.
        iou: of the masks, `[masks, ground truth]`.
        size: height and width of the image.
    """
    width = max(1, round(WIDTH_SHARE * float(np.hypot(*size))))
    pairs = match_one_to_one(iou)
    total = sum(boundary_iou(masks[i], ground_truth[j], width) for i, j in pairs)
    return total / len(ground_truth)
