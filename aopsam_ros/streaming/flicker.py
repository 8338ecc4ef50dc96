"""Flicker: masks of a stream that are gone in the next frame."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.masks.iou import Crop, crop_of, pairwise_iou
from aopsam_ros.results import Segmentation
from aopsam_ros.streaming.camera_motion import CameraMotion

PARTNER_IOU = 0.5


def flicker(
    before: Sequence[Crop], after: Sequence[Crop], shift: tuple[float, float], size: tuple[int, int]
) -> float | None:
    """Share of a frame's masks without a partner (IoU above 0.5) in the next frame, 0-1.

    The camera's motion moved the image's content by `shift`, x and y in pixels; `size` is height
    and width of both frames. None if no mask counts: those that have left the view by more than
    half do not.
    """
    now = [moved(crop, shift, size) for crop in before]
    visible = [crop for crop, old in zip(now, before, strict=True) if 2 * crop.area > old.area]
    if not visible:
        return None
    has_partner = (pairwise_iou(visible, after, PARTNER_IOU) > PARTNER_IOU).any(1)
    return 1.0 - float(has_partner.mean())


def camera_flicker(
    before: Segmentation,
    after: Segmentation,
    images: tuple[NDArray[np.uint8], NDArray[np.uint8]],
) -> float | None:
    """As `flicker`, of successive frames of a camera, whose motion their images show.

    Images are uint8 `[h, w, 3]` and may be smaller than what was segmented. None as well if the
    frames differ in size.
    """
    size = (before.height, before.width)
    if size != (after.height, after.width):
        return None
    camera = CameraMotion()
    _, (x, y) = (camera.update(image) for image in images)
    rows, columns = images[1].shape[:2]
    shift = (x * size[1] / columns, y * size[0] / rows)
    first, second = ([crop_of(mask) for mask in frame.masks] for frame in (before, after))
    return flicker(first, second, shift, size)


def moved(crop: Crop, shift: tuple[float, float], size: tuple[int, int]) -> Crop:
    """Shift a mask by whole pixels; what falls outside the image is cut off."""
    x, y = crop.box[0] + round(shift[0]), crop.box[1] + round(shift[1])
    left, top = max(0, -x), max(0, -y)
    pixels = crop.pixels[top : max(top, size[0] - y), left : max(left, size[1] - x)]
    h, w = pixels.shape
    return Crop((x + left, y + top, w, h), pixels, int(np.count_nonzero(pixels)))
