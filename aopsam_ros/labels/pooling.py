"""Mean features inside masks, each of a map's cells weighted by the share that a mask covers."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.geometry import FrameGeometry
from aopsam_ros.masks.iou import Crop
from aopsam_ros.prompting.features import FeatureMap, single_thread_matmul, unit_length


def pool_masks(masks: Sequence[Crop], features: FeatureMap) -> NDArray[np.float32]:
    """Return each mask's mean feature, of unit length, float32 `[n, C]`.

    A semantic map has few cells: most things cover only parts of theirs.

    Args:
        masks: cut to their boxes, in source pixels.
        features: of the image.
    """
    shares = np.zeros((len(masks), len(features.unit)), np.float32)
    down, across = _cell_shares(features.geometry, features.size)
    down, across = down[: features.rows], across[: features.columns]
    for row, mask in enumerate(masks):
        x, y, width, height = mask.box
        pixels = mask.pixels.astype(np.float32)
        shares[row] = (down[:, y : y + height] @ (pixels @ across[:, x : x + width].T)).ravel()
    return unit_length(single_thread_matmul(shares, features.unit))


def _cell_shares(
    geometry: FrameGeometry, size: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return how much of each pixel's length lies in each cell, `[size, H]` and `[size, W]`."""
    edges = np.arange(size + 1) * (geometry.image_size / size)
    shares = []
    for pixels, scale in zip((geometry.height, geometry.width), geometry.scale[::-1], strict=True):
        start, pixel = edges[:, None] / scale, np.arange(pixels)[None]
        shared = np.minimum(start[1:], pixel + 1) - np.maximum(start[:-1], pixel)
        shares.append(np.asarray(np.maximum(shared, 0.0), np.float32))
    return shares[0], shares[1]
