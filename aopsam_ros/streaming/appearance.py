"""The appearance of objects: the encoder's features inside their masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.prompting.features import FeatureMap, single_thread_matmul
from aopsam_ros.results import InstanceMask
from aopsam_ros.streaming.overlap import SampleGrid


def appearance_of(masks: Sequence[InstanceMask], features: FeatureMap) -> NDArray[np.float32]:
    """Return each mask's mean feature, of unit length, float32 `[n, C]`.

    A feature counts where its pixel's centre lies in the mask; a mask between the centres has the
    feature nearest to it.
    """
    grid = _centres(features)
    if not masks:
        return np.zeros((0, features.unit.shape[1]), np.float32)
    inside = np.stack([grid.sample(mask) for mask in masks]).astype(np.float32)
    mean = single_thread_matmul(inside, features.unit)
    lengths = np.linalg.norm(mean, axis=1, keepdims=True)
    return np.asarray(mean / np.maximum(lengths, 1e-12), np.float32)


def _centres(features: FeatureMap) -> SampleGrid:
    """Return the centres of the feature map's pixels in the image."""
    rows, columns = features.rows, features.columns
    side = max(rows, columns)
    cells = np.stack([np.arange(side), np.arange(side)], 1)
    centres = np.rint(features.geometry.cells_to_source(cells, features.size)).astype(np.int64)
    return SampleGrid(centres[:rows, 1], centres[:columns, 0])
