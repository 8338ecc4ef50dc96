"""One tracked object."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.results import InstanceMask
from aopsam_ros.streaming.overlap import Shift

NEWEST = 0.5  # weight of the newest mask in an object's mean appearance and speed
STEADY = 1.25  # factor: a mask whose area changed by more is no measure of its object's motion


def _nowhere() -> NDArray[np.float64]:
    return np.zeros(2)


@dataclass
class Track:
    """An object and its expected motion; shifts are x and y in pixels.

    Attributes:
        id: of the object.
        mask: the last one.
        centroid: of that mask, x and y in pixels.
        appearance: mean feature, unit length, float32 `[C]`.
        speed: the object's own, per frame, relative to the camera's motion.
        camera: the camera's motion since the last mask.
        expected: motion since the last mask, the camera's and the object's own.
        lost: frames since the last mask.
    """

    id: int
    mask: InstanceMask
    centroid: NDArray[np.float64]
    appearance: NDArray[np.float32]
    speed: NDArray[np.float64] = field(default_factory=_nowhere)
    camera: NDArray[np.float64] = field(default_factory=_nowhere)
    expected: NDArray[np.float64] = field(default_factory=_nowhere)
    lost: int = 0

    @property
    def shift(self) -> Shift:
        """How far the mask should have moved."""
        return float(self.expected[0]), float(self.expected[1])

    def predict(self, camera: Shift) -> None:
        """Go on to the next frame, `camera` pixels further."""
        self.camera = self.camera + camera
        self.expected = self.expected + camera + self.speed

    def update(
        self,
        mask: InstanceMask,
        centroid: NDArray[np.float64],
        appearance: NDArray[np.float32],
        whole: bool,
    ) -> None:
        """Take the mask that shows the object in this frame.

        Args:
            mask: of this frame.
            centroid: in pixels.
            appearance: mean feature in the mask, unit length.
            whole: neither this mask nor the last is cut by the image's edge.
        """
        steady = 1 / STEADY < mask.area / max(1, self.mask.area) < STEADY
        if whole and steady:
            own = (centroid - self.centroid - self.camera) / (self.lost + 1)
            self.speed = (1 - NEWEST) * self.speed + NEWEST * own
        else:
            self.speed = (1 - NEWEST) * self.speed
        mixed = (1 - NEWEST) * self.appearance + NEWEST * appearance
        self.appearance = np.asarray(mixed / max(float(np.linalg.norm(mixed)), 1e-12), np.float32)
        self.mask, self.centroid, self.lost = mask, centroid, 0
        self.camera, self.expected = _nowhere(), _nowhere()
