"""Targets of the extents: how far the object at each place reaches to all four sides."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.training.prompt_sampling import innermost_pixel_and_depth

EXTENT_STRIDE = 8  # the predictor's trunk


class ViewInstance(NamedTuple):
    """An instance of a view: innermost pixel, its depth, and the bounding box, pixels."""

    layer: int
    label: int
    x: int
    y: int
    depth: float
    box: tuple[int, int, int, int]  # x, y, width, height
    area: int


def view_instances(layers: NDArray[np.uint16], smallest: int) -> list[ViewInstance]:
    """Describe instances of at least `smallest` pixels in labels `[L, h, w]`, the largest first."""
    found = []
    for index, layer in enumerate(layers):
        counts = np.bincount(layer.ravel())
        for label in np.flatnonzero(counts[1:] >= smallest) + 1:
            mask = layer == label
            box = cv2.boundingRect(mask.astype(np.uint8))
            x, y, depth = innermost_pixel_and_depth(mask)
            found.append(
                ViewInstance(index, int(label), x, y, depth, tuple(box), int(counts[label]))
            )
    return sorted(found, key=lambda instance: -instance.area)


def extent_target(
    layers: NDArray[np.uint16],
    instances: list[ViewInstance],
    canvas: tuple[int, int],
    image_size: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draw extents and weights; where instances overlap, the smallest one counts.

    Args:
        layers: labels `[L, h, w]`.
        instances: of the view, the largest first.
        canvas: height and width, multiples of the stride.
        image_size: what distances are divided by, pixels.

    Returns:
        Extents `[4, H/8, W/8]` (left, top, right, bottom) and weights `[H/8, W/8]`; an instance's
        weights sum up to the square root of its number of cells.
    """
    rows, columns = canvas[0] // EXTENT_STRIDE, canvas[1] // EXTENT_STRIDE
    extents = np.zeros((4, rows, columns), np.float32)
    weights = np.zeros((rows, columns), np.float32)
    half = EXTENT_STRIDE // 2
    cells = layers[:, half::EXTENT_STRIDE, half::EXTENT_STRIDE]
    ys, xs = np.mgrid[:rows, :columns] * EXTENT_STRIDE + half
    for instance in instances:
        left, top, width, height = instance.box
        inside = np.zeros((rows, columns), bool)
        part = cells[instance.layer] == instance.label
        inside[: part.shape[0], : part.shape[1]] = part
        inside[
            min(instance.y // EXTENT_STRIDE, rows - 1),
            min(instance.x // EXTENT_STRIDE, columns - 1),
        ] = True
        x, y = xs[inside], ys[inside]
        sides = [x - left, y - top, left + width - x, top + height - y]
        extents[:, inside] = np.maximum(sides, 1.0) / image_size
        weights[inside] = inside.sum() ** -0.5
    return extents, weights
