"""What a mask's features are made of: the mean of a map inside it, or a crop of the image."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.geometry import FrameGeometry
from aopsam_ros.masks.iou import Crop
from aopsam_ros.prompting.features import FeatureMap, single_thread_matmul, unit_length


def pool_masks(masks: Sequence[Crop], features: FeatureMap) -> NDArray[np.float32]:
    """Return each mask's mean feature, of unit length, float32 `[n, C]`.

    Each cell is weighted by the share of it that the mask covers: a semantic map has few cells, and
    most things cover only parts of theirs.

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


def crop_images(rgb: NDArray[np.uint8], masks: Sequence[Crop], size: int) -> NDArray[np.float32]:
    """Return the square around each mask's box, as far as it fits into the image, resized.

    What surrounds a mask stays: it says what the thing is.

    Args:
        rgb: uint8 `[H, W, 3]`.
        masks: cut to their boxes, in its pixels.
        size: L.

    Returns:
        float32 `[n, 3, L, L]`, 0 to 255.
    """
    crops = np.empty((len(masks), 3, size, size), np.float32)
    for own, mask in zip(crops, masks, strict=True):
        x, y, width, height = mask.box
        side = max(width, height)
        left = min(max(0, x - (side - width) // 2), max(0, rgb.shape[1] - side))
        top = min(max(0, y - (side - height) // 2), max(0, rgb.shape[0] - side))
        window = rgb[top : top + side, left : left + side]
        own[:] = cv2.resize(window, (size, size), interpolation=cv2.INTER_AREA).transpose(2, 0, 1)
    return crops


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
