"""Mask metrics: IoU matrices, greedy mean IoU in both readings of the paper, coverage."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.masks.selection import count_pixels
from aopsam_ros.results import Segmentation

SMALLEST_SHARE = 0.001  # instances under 0.1 % of the image are not counted


def instance_masks(
    layers: NDArray[np.uint16], smallest_share: float = SMALLEST_SHARE
) -> list[NDArray[np.bool_]]:
    """List the instances of label layers `[L, H, W]` that cover at least a share of the image."""
    least = smallest_share * layers.shape[1] * layers.shape[2]
    masks = []
    for layer in layers:
        counts = np.bincount(layer.ravel())
        masks += [layer == label for label in range(1, len(counts)) if counts[label] >= least]
    return [mask for mask in masks if mask.any()]


def iou_matrix(segmentation: Segmentation, truth: list[NDArray[np.bool_]]) -> NDArray[np.float64]:
    """IoU of every predicted mask with every true one, `[predicted, truth]`."""
    if not truth or not segmentation.masks:
        return np.zeros((len(segmentation.masks), len(truth)))
    stack = np.stack(truth)
    areas = count_pixels(stack)
    return np.stack([iou_row(mask.bbox, mask.crop(), stack, areas) for mask in segmentation.masks])


def iou_row(
    box: tuple[int, int, int, int],
    crop: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    areas: NDArray[np.int64] | None = None,
) -> NDArray[np.float64]:
    """IoU of one mask with every true one, `[T]`.

    Args:
        box: x, y, width, height of the mask.
        crop: the mask inside its box.
        truth: bool `[T, H, W]`, none of them empty.
        areas: their pixels, `[T]`, where they are known.
    """
    x, y, w, h = box
    overlap = count_pixels(truth[:, y : y + h, x : x + w] & crop)
    sizes = count_pixels(truth) if areas is None else areas
    return np.asarray(overlap / (sizes + np.count_nonzero(crop) - overlap), np.float64)


def one_to_one(iou: NDArray[np.float64]) -> float:
    """Greedy one-to-one mean IoU over the truth: best pairs first, the unmatched count 0.

    Args:
        iou: `[predicted, truth]`, truth >= 1.
    """
    left = iou.copy()
    total = 0.0
    for _ in range(min(iou.shape)):
        row, column = np.unravel_index(int(left.argmax()), left.shape)
        if left[row, column] <= 0:
            break
        total += float(left[row, column])
        left[row, :] = -1
        left[:, column] = -1
    return total / iou.shape[1]


def closest(iou: NDArray[np.float64]) -> float:
    """The paper's reading: every predicted mask with its closest true one, averaged."""
    return float(iou.max(1).mean()) if iou.size else 0.0


def coverage(iou: NDArray[np.float64], threshold: float) -> float:
    """Share of the true masks that some predicted mask reaches with at least this IoU.

    Args:
        iou: `[predicted, truth]`, truth >= 1.
        threshold: IoU in 0-1.
    """
    return float((iou.max(0) >= threshold).mean()) if iou.size else 0.0
