"""Hysteresis against flicker: what the frame before showed is kept at lower thresholds."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.masks.hierarchy import Hierarchy, linked
from aopsam_ros.masks.iou import Crop, crop_of, pairwise_iou
from aopsam_ros.options import MaskOptions, SegmenterOptions
from aopsam_ros.results import InstanceMask, Segmentation
from aopsam_ros.streaming.camera_motion import CameraMotion
from aopsam_ros.streaming.flicker import PARTNER_IOU, moved

# Of a mask's attributes, in `MaskOptions`.
THRESHOLDS = {
    "predicted_iou": "predicted_iou_threshold",
    "stability_score": "stability_threshold",
    "score": "score_threshold",
}


def lowered(options: SegmenterOptions, hysteresis: float) -> SegmenterOptions:
    """Return options with thresholds of a mask's quality that are so much lower."""
    mask = options.mask
    low = {name: max(0.0, getattr(mask, name) - hysteresis) for name in THRESHOLDS.values()}
    return replace(options, mask=replace(mask, **low))


class Hysteresis:
    """Remembers the masks of the last frame. One thread at a time may use it."""

    def __init__(self) -> None:
        self._before: list[Crop] = []
        self._size = (0, 0)
        self._camera = CameraMotion()

    def update(
        self, rgb: NDArray[np.uint8], segmentation: Segmentation, options: MaskOptions
    ) -> Segmentation:
        """Take the next frame, segmented with `lowered` options; leave out what is weak and new.

        A mask below the full thresholds of `options` stays only if the frame before had it (IoU
        above 0.5 after the camera's motion).
        """
        size, shift = (segmentation.height, segmentation.width), self._camera.update(rgb)
        before = [moved(crop, shift, size) for crop in self._before] if size == self._size else []
        crops = [crop_of(mask) for mask in segmentation.masks]
        stays = np.array([_is_strong(mask, options) for mask in segmentation.masks], np.bool_)
        weak = np.flatnonzero(~stays)
        iou = pairwise_iou([crops[index] for index in weak], before, PARTNER_IOU)
        stays[weak] = (iou > PARTNER_IOU).any(axis=1)
        kept = np.flatnonzero(stays)
        self._before, self._size = [crops[index] for index in kept], size
        return segmentation if stays.all() else _only(segmentation, kept)


def _is_strong(mask: InstanceMask, options: MaskOptions) -> bool:
    return all(getattr(mask, of) >= getattr(options, name) for of, name in THRESHOLDS.items())


def _only(segmentation: Segmentation, kept: NDArray[np.int64]) -> Segmentation:
    """Leave out all masks but those at some places; a prompt that gave only others is rejected."""
    masks = segmentation.masks
    parents = np.array([mask.parent - 1 for mask in masks], np.int64)
    levels = np.array([mask.level for mask in masks], np.int64)
    chosen = [masks[index] for index in kept]
    lost = {mask.prompt for mask in masks} - {mask.prompt for mask in chosen}
    return replace(
        segmentation,
        masks=linked(chosen, Hierarchy(parents, levels).take(kept)),
        prompts=segmentation.prompts_without(lost),
    )
