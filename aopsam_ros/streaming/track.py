"""What is remembered of one object."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.results import InstanceMask
from aopsam_ros.streaming.overlap import Shift

FRESH = 0.5  # share of what was seen last in the memory of an object's looks and of its speed
STEADY = 1.25  # a mask whose area changed by more says little of how its object moved


def _nowhere() -> NDArray[np.float64]:
    return np.zeros(2)


@dataclass
class Track:
    """An object: its last mask and how it looks, and where it should be now.

    Shifts are x and y in pixels. `speed` is the object's own, a frame, beside the camera's;
    `camera` is the camera's motion since the last mask, `expected` that and the object's own.
    """

    id: int
    mask: InstanceMask
    middle: NDArray[np.float64]
    looks: NDArray[np.float32]
    speed: NDArray[np.float64] = field(default_factory=_nowhere)
    camera: NDArray[np.float64] = field(default_factory=_nowhere)
    expected: NDArray[np.float64] = field(default_factory=_nowhere)
    lost: int = 0  # frames since the last mask

    @property
    def shift(self) -> Shift:
        """How far the mask should have moved."""
        return float(self.expected[0]), float(self.expected[1])

    def step(self, camera: Shift) -> None:
        """Go on to the next frame."""
        self.camera = self.camera + camera
        self.expected = self.expected + camera + self.speed

    def see(
        self,
        mask: InstanceMask,
        middle: NDArray[np.float64],
        looks: NDArray[np.float32],
        whole: bool,
    ) -> None:
        """Take the mask that shows the object in this frame.

        Args:
            mask: of this frame.
            middle: its centre of gravity.
            looks: its mean feature, unit length.
            whole: neither this mask nor the last is cut by the image's edge.
        """
        steady = 1 / STEADY < mask.area / max(1, self.mask.area) < STEADY
        if whole and steady:
            own = (middle - self.middle - self.camera) / (self.lost + 1)
            self.speed = (1 - FRESH) * self.speed + FRESH * own
        else:
            self.speed = (1 - FRESH) * self.speed
        mixed = (1 - FRESH) * self.looks + FRESH * looks
        self.looks = np.asarray(mixed / max(float(np.linalg.norm(mixed)), 1e-12), np.float32)
        self.mask, self.middle, self.lost = mask, middle, 0
        self.camera, self.expected = _nowhere(), _nowhere()
