"""Tracking along a stream of frames."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.results import Segmentation
from aopsam_ros.streaming.appearance import looks_of
from aopsam_ros.streaming.camera_motion import CameraMotion
from aopsam_ros.streaming.tracker import Tracker, TrackingOptions

if TYPE_CHECKING:
    from aopsam_ros.prompting.features import FeatureMap


class StreamTracker:
    """Gives the masks of a stream the ids of the objects they show. One thread may use it."""

    def __init__(self) -> None:
        """Begin with no object known."""
        self._tracker = Tracker()
        self._camera = CameraMotion()
        self._stamp = 0

    def update(
        self,
        rgb: NDArray[np.uint8],
        segmentation: Segmentation,
        features: FeatureMap,
        stamp: int,
        options: TrackingOptions,
    ) -> Segmentation:
        """Take the next frame and return it with its objects' ids.

        Args:
            rgb: the frame, uint8 `[H, W, 3]`.
            segmentation: of the frame.
            features: of the frame.
            stamp: of the frame, nanoseconds; where it steps back, all objects are forgotten.
            options: of the frame.
        """
        if stamp < self._stamp:
            self.reset()
        self._stamp = stamp
        self._tracker.options = options
        looks = looks_of(segmentation.masks, features)
        masks = self._tracker.update(
            segmentation.masks,
            looks,
            segmentation.height,
            segmentation.width,
            self._camera.update(rgb),
        )
        return replace(segmentation, masks=masks)

    def reset(self) -> None:
        """Forget all objects; ids are not used again."""
        self._tracker.reset()
        self._camera.reset()
        self._stamp = 0
