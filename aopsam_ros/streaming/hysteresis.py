"""Hysteresis against flicker: what the frame before showed is kept at lower thresholds."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

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
        """Take the next frame; return it without masks that are weak and new.

        Args:
            rgb: the frame, uint8 `[H, W, 3]`.
            segmentation: of it, with `lowered` options.
            options: the full thresholds. A mask below them stays only if the frame before had it
                (IoU above 0.5 after the camera's motion).
        """
        size, shift = (segmentation.height, segmentation.width), self._camera.update(rgb)
        before = [moved(crop, shift, size) for crop in self._before] if size == self._size else []
        masks = segmentation.masks
        weak = [mask for mask in masks if not _is_strong(mask, options)]
        known = pairwise_iou([crop_of(mask) for mask in weak], before, PARTNER_IOU) > PARTNER_IOU
        dropped = {
            mask.id for mask, partners in zip(weak, known, strict=True) if not partners.any()
        }
        kept = tuple(mask for mask in masks if mask.id not in dropped)
        self._before, self._size = [crop_of(mask) for mask in kept], size
        return _without(segmentation, kept) if dropped else segmentation


def _is_strong(mask: InstanceMask, options: MaskOptions) -> bool:
    return all(getattr(mask, of) >= getattr(options, name) for of, name in THRESHOLDS.items())


def _without(segmentation: Segmentation, kept: tuple[InstanceMask, ...]) -> Segmentation:
    """Leave other masks out; a prompt that gave only those is rejected."""
    lost = {mask.prompt for mask in segmentation.masks} - {mask.prompt for mask in kept}
    parents = {mask.id: mask.parent for mask in segmentation.masks}
    number = {mask.id: index for index, mask in enumerate(kept, 1)}

    def ancestors(mask: InstanceMask) -> list[int]:
        """Return the new ids of all kept masks around one, the innermost first."""
        found, around = [], mask.parent
        while around:
            found += [number[around]] if around in number else []
            around = parents[around]
        return found

    def relinked(mask: InstanceMask) -> InstanceMask:
        around = ancestors(mask)
        return replace(
            mask, id=number[mask.id], parent=around[0] if around else 0, level=len(around)
        )

    return replace(
        segmentation,
        masks=tuple(relinked(mask) for mask in kept),
        prompts=segmentation.prompts_without(lost),
    )
