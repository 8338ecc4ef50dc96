"""Holes and islands of masks that are too small to mean anything, at low resolution."""

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.geometry import FrameGeometry
from aopsam_ros.masks.selection import MASK_THRESHOLD, mask_corners
from aopsam_ros.options import MaskOptions


def clean_logits(
    logits: NDArray[np.float32], geometry: FrameGeometry, options: MaskOptions
) -> NDArray[np.float32]:
    """Fill small holes of masks and remove small islands, as SAM's automatic generator does.

    A hole is background that does not reach the image's border; an island is a part of the mask.
    The logits, `[n, M, M]`, of those smaller than `min_hole_area` and `min_island_area`, or than
    `min_island_share` of the largest island, change sign, so that outlines elsewhere stay as they
    are. The largest island always stays.
    """
    size = logits.shape[-1]
    pixels = float(np.prod(geometry.image_size / size / geometry.scale))  # of a logit, source
    hole, island = options.min_hole_area / pixels, options.min_island_area / pixels
    share = options.min_island_share
    if max(hole, island) <= 1.0 and share == 0.0:
        return logits
    cleaned = logits.copy()
    rows, columns = geometry.valid_cells(size)
    corners = mask_corners(cleaned[:, :rows, :columns] > MASK_THRESHOLD)
    for mask, (left, top, right, bottom) in zip(cleaned, corners.tolist(), strict=True):
        if left == right:
            continue
        shown = mask[top:bottom, left:right]  # what lies beyond is one region of background
        # One after the other, as SAM does: what lies in a hole or an island goes with it.
        _flip(shown, _small_holes(shown <= MASK_THRESHOLD, hole))
        _flip(shown, _small_islands(shown > MASK_THRESHOLD, island, share))
    return cleaned


def _flip(logits: NDArray[np.float32], cells: NDArray[np.bool_]) -> None:
    # A logit of zero is outside: filled, it must be above.
    logits[cells] = np.where(logits[cells] == 0.0, 1e-3, -logits[cells])


def _small_holes(outside: NDArray[np.bool_], min_area: float) -> NDArray[np.bool_]:
    framed = np.ones((outside.shape[0] + 2, outside.shape[1] + 2), np.bool_)
    framed[1:-1, 1:-1] = outside  # what reaches the border is one region
    labels, areas = _components(framed)
    small = areas < min_area
    small[0] = small[labels[0, 0]] = False
    return np.asarray(small[labels][1:-1, 1:-1])


def _small_islands(mask: NDArray[np.bool_], min_area: float, min_share: float) -> NDArray[np.bool_]:
    labels, areas = _components(mask)
    largest = 1 + int(areas[1:].argmax()) if len(areas) > 1 else 0
    small = areas < max(min_area, min_share * areas[largest])
    small[[0, largest]] = False
    return np.asarray(small[labels])


def _components(region: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Label parts connected over sides and corners from 1 on; return labels and pixel counts."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(region.view(np.uint8), connectivity=8)
    return labels, stats[:, cv2.CC_STAT_AREA].astype(np.int64)
