"""Training prompts: points inside an instance and loose boxes around it."""

import cv2
import numpy as np
from numpy.typing import NDArray


def innermost_pixel(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """Find the pixel farthest from the outside of a mask (the image's border counts as outside).

    Args:
        mask: `bool [H, W]` with at least one pixel set.

    Returns:
        x, y; the first in row-major order among equals.
    """
    x, y, _ = innermost_pixel_and_depth(mask)
    return x, y


def innermost_pixel_and_depth(mask: NDArray[np.bool_]) -> tuple[int, int, float]:
    """As `innermost_pixel`, with its distance to the outside in pixels: x, y, depth."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    crop = np.pad(mask[y : y + height, x : x + width].astype(np.uint8), 1)
    distance = cv2.distanceTransform(crop, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    row, column = np.unravel_index(int(distance.argmax()), distance.shape)
    return int(x + column - 1), int(y + row - 1), float(distance[row, column])


def random_point(
    mask: NDArray[np.bool_], rng: np.random.Generator, innermost: float = 0.35
) -> tuple[int, int]:
    """Pick a pixel: the innermost with that probability, else the inner one of two random ones."""
    if rng.random() < innermost:
        return innermost_pixel(mask)
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    crop = np.pad(mask[y : y + height, x : x + width].astype(np.uint8), 1)
    distance = cv2.distanceTransform(crop, cv2.DIST_L2, 3)
    rows, columns = np.nonzero(crop)
    picks = rng.integers(len(rows), size=2)
    best = max(picks, key=lambda i: distance[rows[i], columns[i]])
    return int(x + columns[best] - 1), int(y + rows[best] - 1)


def loose_box(
    mask: NDArray[np.bool_], rng: np.random.Generator, looseness: float
) -> NDArray[np.float32]:
    """Box a mask, its corners shifted by about `looseness` of its size: `[[x0, y0], [x1, y1]]`."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    corners = np.array([[x, y], [x + width, y + height]], np.float32)
    shift = np.clip(rng.normal(0, looseness, (2, 2)), -3 * looseness, 3 * looseness)
    limit = [mask.shape[1], mask.shape[0]]
    return np.clip(corners + shift * [width, height], 0, limit).astype(np.float32)
