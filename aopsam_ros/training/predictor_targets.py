"""Targets of the Prompt Predictor: a peak at each instance's innermost point, and extents.

Extents say how far the object at each place reaches to all four sides.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.training.prompt_sampling import innermost_pixel

MAP_STRIDE = 4  # of the PCM: that of models.prompt_predictor, which needs torch
SMALLEST_PROMPTED = 96  # instances of fewer pixels of the view give no point
EXTENT_STRIDE = 8  # the predictor's trunk
# A peak's width follows the point's depth in the mask: inside a large object many pixels are
# equally good prompts.
SIGMA_OF_DEPTH = 0.5
LEAST_SIGMA, MOST_SIGMA = 1.0, 5.0  # map pixels
# Points that come with the data lie anywhere in their masks; their peaks all have one width.
ANNOTATED_SIGMA = 2.0  # map pixels


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
            x, y, depth = innermost_pixel(mask)
            found.append(
                ViewInstance(index, int(label), x, y, depth, tuple(box), int(counts[label]))
            )
    return sorted(found, key=lambda instance: -instance.area)


class PromptTarget(NamedTuple):
    """The predictor's confidence map for one view, P x Q cells, as it is stored."""

    # `[N, 3]`: x, y and depth (distance to the outside of the mask), in pixels of the map.
    points: NDArray[np.float32]
    known: NDArray[np.bool_]  # `[P, Q]`, where the view is labelled

    def map(self) -> NDArray[np.float32]:
        """Return the target map, `float32 [P, Q]`."""
        return spread_points(self.points, (self.known.shape[0], self.known.shape[1]))


def view_target(
    layers: NDArray[np.uint16],
    instances: list[ViewInstance],
    canvas: tuple[int, int],
    points: NDArray[np.float32] | None = None,
) -> PromptTarget:
    """Return the points of a view that lies top left on a canvas.

    Args:
        layers: labels `[L, h, w]`, h and w at most the canvas.
        instances: of the view.
        canvas: height and width, multiples of the stride.
        points: the data's own prompt points `[N, 2]` (x, y in pixels of the view), used instead of
            the instances' innermost ones.
    """
    if points is None:
        pixels = np.array([(i.x, i.y, i.depth) for i in instances], np.float32).reshape(-1, 3)
    else:
        depth = np.full((len(points), 1), MAP_STRIDE * ANNOTATED_SIGMA / SIGMA_OF_DEPTH)
        pixels = np.hstack([points, depth]).astype(np.float32)
    labelled = np.zeros(canvas, bool)
    labelled[: layers.shape[1], : layers.shape[2]] = layers.any(0)
    cells = labelled.reshape(canvas[0] // MAP_STRIDE, MAP_STRIDE, -1, MAP_STRIDE)
    centre = np.array([0.5, 0.5, 0.0], np.float32)  # of a pixel; a depth has none
    known = np.asarray(cells.any((1, 3)))
    return PromptTarget((pixels + centre) / np.float32(MAP_STRIDE) - centre, known)


def view_maps(
    layers: NDArray[np.uint16],
    instances: list[ViewInstance],
    canvas: tuple[int, int],
    image_size: int,
) -> tuple[NDArray, ...]:
    """Return the confidence map of a view, where it is known, the extents and their weights.

    Arguments as in `view_target` and `extent_target`.
    """
    target = view_target(layers, instances, canvas)
    return target.map(), target.known, *extent_target(layers, instances, canvas, image_size)


def spread_points(points: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return a map with a peak at each point: the sum of a uniform and a Gaussian kernel.

    The paper names the two kernels but not their sizes; here the Gaussian's sigma is half of the
    point's depth, the uniform kernel's radius is one sigma. Where peaks overlap the map keeps the
    larger value, so that every peak is 1.

    Args:
        points: `[N, 3]`: x, y and depth (distance to the outside of the mask), in map pixels.
        size: Height and width of the map.

    Returns:
        `float32 [height, width]` in 0-1, 1 at each point.
    """
    reach = int(3 * MOST_SIGMA)
    target = np.zeros((size[0] + 2 * reach, size[1] + 2 * reach), np.float32)
    for x, y, depth in points:
        column, row = round(float(x)), round(float(y))
        if 0 <= row < size[0] and 0 <= column < size[1]:
            kernel = _kernel(float(np.clip(SIGMA_OF_DEPTH * depth, LEAST_SIGMA, MOST_SIGMA)))
            start, side = reach - kernel.shape[0] // 2, kernel.shape[0]
            window = target[row + start : row + start + side, column + start :][:, :side]
            np.maximum(window, kernel, out=window)
    return target[reach:-reach, reach:-reach]


def _kernel(sigma: float) -> NDArray[np.float32]:
    reach = int(3 * sigma)
    line = cv2.getGaussianKernel(2 * reach + 1, sigma, cv2.CV_32F)
    kernel = 0.5 * (line @ line.T) / float(line.max() ** 2)
    half = int(sigma)
    kernel[reach - half : reach + half + 1, reach - half : reach + half + 1] += 0.5
    return np.asarray(kernel, np.float32)


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
