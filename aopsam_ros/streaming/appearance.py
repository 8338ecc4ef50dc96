"""How objects look: the encoder's features inside their masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.products import matmul
from aopsam_ros.results import InstanceMask
from aopsam_ros.streaming.overlap import SampleGrid

if TYPE_CHECKING:
    from aopsam_ros.prompting.features import FeatureMap


def looks_of(masks: Sequence[InstanceMask], features: FeatureMap) -> NDArray[np.float32]:
    """Return each mask's mean feature, of unit length, float32 `[n, C]`.

    A feature counts where its pixel's middle lies in the mask; a mask between the middles has the
    feature nearest to it.
    """
    grid = _middles(features)
    if not masks:
        return np.zeros((0, features.unit.shape[1]), np.float32)
    inside = np.stack([grid.sample(mask) for mask in masks]).astype(np.float32)
    mean = matmul(inside, features.unit)
    lengths = np.linalg.norm(mean, axis=1, keepdims=True)
    return np.asarray(mean / np.maximum(lengths, 1e-12), np.float32)


def _middles(features: FeatureMap) -> SampleGrid:
    """Return the middles of the feature map's pixels in the image."""
    rows, columns = features.rows, features.columns
    side = max(rows, columns)
    cells = np.stack([np.arange(side), np.arange(side)], 1)
    middles = np.rint(features.geometry.cells_to_source(cells, features.size)).astype(np.int64)
    return SampleGrid(middles[:rows, 1], middles[:columns, 0])
