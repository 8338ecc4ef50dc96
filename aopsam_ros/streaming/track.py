"""One tracked object, and what objects look like: the encoder's features inside their masks."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.masks.overlap import SampleGrid, Shift
from aopsam_ros.prompting.features import FeatureMap, single_thread_matmul, unit_length
from aopsam_ros.results import InstanceMask

NEWEST = 0.5  # weight of the newest mask in an object's mean appearance and speed
STEADY = 1.25  # factor: a mask whose area changed by more is no measure of its object's motion


@dataclass
class Track:
    """An object and its expected motion; shifts are x and y in pixels."""

    id: int  # of the object
    mask: InstanceMask  # the last one
    centroid: NDArray[np.float64]  # of that mask, x and y in pixels
    appearance: NDArray[np.float32]  # mean feature, unit length, float32 `[C]`
    # the object's own, per frame, relative to the camera's motion
    speed: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))
    # the camera's motion since the last mask, this frame's included
    camera: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))
    lost: int = 0  # frames since the last mask, this one not included

    @property
    def shift(self) -> Shift:
        """How far the mask should have moved, with the camera and by itself."""
        x, y = (self.camera + (self.lost + 1) * self.speed).tolist()
        return x, y

    def update(
        self,
        mask: InstanceMask,
        centroid: NDArray[np.float64],
        appearance: NDArray[np.float32],
        whole: bool,
    ) -> None:
        """Take what shows the object in this frame; fields of these names say what it is.

        It is `whole` if neither this mask nor the last is cut by the image's edge.
        """
        steady = 1 / STEADY < mask.area / max(1, self.mask.area) < STEADY
        if whole and steady:
            own = (centroid - self.centroid - self.camera) / (self.lost + 1)
            self.speed = (1 - NEWEST) * self.speed + NEWEST * own
        else:
            self.speed = (1 - NEWEST) * self.speed
        mixed = (1 - NEWEST) * self.appearance + NEWEST * appearance
        self.appearance = unit_length(mixed[None])[0]
        self.mask, self.centroid, self.camera, self.lost = mask, centroid, np.zeros(2), 0


def appearance_of(masks: Sequence[InstanceMask], features: FeatureMap) -> NDArray[np.float32]:
    """Return each mask's mean feature, of unit length, float32 `[n, C]`.

    A feature counts where its pixel's centre lies in the mask; a mask between the centres has the
    feature nearest to it.
    """
    if not masks:
        return np.zeros((0, features.unit.shape[1]), np.float32)
    rows, columns = features.rows, features.columns
    cells = np.repeat(np.arange(max(rows, columns))[:, None], 2, axis=1)
    centres = np.rint(features.geometry.cells_to_source(cells, features.size)).astype(np.int64)
    grid = SampleGrid(centres[:rows, 1], centres[:columns, 0])
    inside = np.stack([grid.sample(mask) for mask in masks]).astype(np.float32)
    return unit_length(single_thread_matmul(inside, features.unit))
