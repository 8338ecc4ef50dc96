"""Hysteresis against flicker: what the frame before showed is kept at lower thresholds."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.masks.hierarchy import Hierarchy, hierarchy_of, linked
from aopsam_ros.masks.iou import Crop, crop_of, pairwise_iou
from aopsam_ros.results import Segmentation
from aopsam_ros.streaming.camera_motion import CameraMotion
from aopsam_ros.streaming.flicker import PARTNER_IOU, moved


class Hysteresis:
    """Remembers the masks of the last frame. One thread at a time may use it."""

    def __init__(self) -> None:
        self._before: list[Crop] = []
        self._size = (0, 0)
        self._camera = CameraMotion()

    def update(
        self, rgb: NDArray[np.uint8], segmentation: Segmentation, granularity: str = "all"
    ) -> Segmentation:
        """Take the next frame, segmented with hysteresis; leave out what is weak and new.

        A mask that is not `strong` stays only if the frame before had it (IoU above 0.5 after the
        camera's motion). Of those that stay, the ones of a granularity are returned.
        """
        size, shift = (segmentation.height, segmentation.width), self._camera.update(rgb)
        before = [moved(crop, shift, size) for crop in self._before] if size == self._size else []
        crops = [crop_of(mask) for mask in segmentation.masks]
        stays = np.array([mask.strong for mask in segmentation.masks], np.bool_)
        weak = np.flatnonzero(~stays)
        iou = pairwise_iou([crops[index] for index in weak], before, PARTNER_IOU)
        stays[weak] = (iou > PARTNER_IOU).any(axis=1)
        kept = np.flatnonzero(stays)
        self._before, self._size = [crops[index] for index in kept], size
        chosen = kept[_tree(segmentation, kept).of_granularity(granularity)]
        return segmentation if len(chosen) == len(stays) else _only(segmentation, chosen)


def _tree(segmentation: Segmentation, kept: NDArray[np.int64]) -> Hierarchy:
    """Return the tree of the masks at some places, in which the others have no part."""
    masks = [segmentation.masks[index] for index in kept]
    place = {mask.id: index for index, mask in enumerate(masks)}
    return hierarchy_of([[place[n] for n in mask.holders if n in place] for mask in masks])


def _only(segmentation: Segmentation, kept: NDArray[np.int64]) -> Segmentation:
    """Leave out all masks but those at some places; a prompt that gave only others is rejected."""
    masks = segmentation.masks
    chosen = [masks[index] for index in kept]
    return replace(
        segmentation,
        masks=linked(chosen, _tree(segmentation, kept)),
        prompts=segmentation.prompts_of(chosen),
    )
