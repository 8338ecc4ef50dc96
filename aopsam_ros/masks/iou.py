"""IoU of masks, pixel by pixel, each cut to its box."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.masks.rle import Box, decode, tight_box
from aopsam_ros.results import InstanceMask


class Crop(NamedTuple):
    """A mask inside its tight box: `box` x, y, w, h; `pixels` bool `[h, w]`; pixels set."""

    box: Box
    pixels: NDArray[np.bool_]
    area: int


def crop_of(mask: InstanceMask | NDArray[np.bool_]) -> Crop:
    """Cut out a predicted mask or a whole one, bool `[H, W]`."""
    if isinstance(mask, InstanceMask):
        return Crop(mask.bbox, decode(mask), mask.area)
    x, y, w, h = box = tight_box(mask)
    pixels = mask[y : y + h, x : x + w]
    return Crop(box, pixels, int(np.count_nonzero(pixels)))


def pairwise_iou(
    first: Sequence[Crop], second: Sequence[Crop], at_least: float = 0.0
) -> NDArray[np.float64]:
    """IoU of every pair of masks, `[first, second]`.

    Only pairs whose boxes and areas allow an IoU above `at_least` are compared pixel by pixel; the
    others are 0.
    """
    iou = np.zeros((len(first), len(second)))
    if not iou.size:
        return iou
    corners, areas = _corners(first)[:, None], np.array([crop.area for crop in first])[:, None]
    others, other_areas = _corners(second)[None], np.array([crop.area for crop in second])[None]
    low = np.maximum(corners[..., :2], others[..., :2])
    sides = np.maximum(np.minimum(corners[..., 2:], others[..., 2:]) - low, 0)
    most = np.minimum(sides.prod(-1), np.minimum(areas, other_areas))
    for i, j in np.argwhere(most > at_least * (areas + other_areas - most)):
        (left, top), (width, height) = low[i, j], sides[i, j]
        seen = [_window(crop, left, top, width, height) for crop in (first[i], second[j])]
        overlap = int(np.count_nonzero(seen[0] & seen[1]))
        iou[i, j] = overlap / (first[i].area + second[j].area - overlap)
    return iou


def _corners(crops: Sequence[Crop]) -> NDArray[np.int64]:
    boxes = np.array([crop.box for crop in crops], np.int64)
    return np.hstack((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]))


def _window(crop: Crop, left: int, top: int, width: int, height: int) -> NDArray[np.bool_]:
    """View the part of a mask inside a rectangle that lies in its box."""
    y, x = top - crop.box[1], left - crop.box[0]
    return crop.pixels[y : y + height, x : x + width]
