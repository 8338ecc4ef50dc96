"""Target maps of the Prompt Predictor: a peak at each instance's innermost point."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.training.extent_targets import ViewInstance, view_instances

# A peak's width follows the point's depth in the mask: inside a large object many pixels are
# equally good prompts.
SIGMA_OF_DEPTH = 0.5
LEAST_SIGMA, MOST_SIGMA = 1.0, 5.0  # map pixels
# Points that come with the data lie anywhere in their masks; their peaks all have one width.
ANNOTATED_SIGMA = 2.0  # map pixels


@dataclass(frozen=True)
class PromptTarget:
    """The predictor's target for one view: a map of P x Q cells."""

    # `[N, 3]`: x, y and depth (distance to the outside of the mask), in pixels of the map.
    points: NDArray[np.float32]
    known: NDArray[np.bool_]  # `[P, Q]`, where the view is labelled

    def map(self) -> NDArray[np.float32]:
        """Return the target map, `float32 [P, Q]`."""
        return spread_points(self.points, (self.known.shape[0], self.known.shape[1]))


def view_target(
    layers: NDArray[np.uint16],
    canvas: int,
    stride: int,
    smallest: int,
    points: NDArray[np.float32] | None = None,
) -> PromptTarget:
    """Find the points of a view that lies top left on a square canvas.

    Args:
        layers: labels `[L, h, w]`, h and w at most the canvas.
        canvas: side of the canvas, pixels.
        stride: pixels of the canvas to one of the map.
        smallest: instances of fewer pixels of the view give no point.
        points: the data's own prompt points `[N, 2]` (x, y in pixels of the view), used instead of
            the instances' innermost ones.
    """
    if points is None:
        pixels = prompt_points(layers, smallest)
    else:
        depth = np.full((len(points), 1), stride * ANNOTATED_SIGMA / SIGMA_OF_DEPTH)
        pixels = np.hstack([points, depth]).astype(np.float32)
    return map_target(layers, (canvas, canvas), stride, pixels)


def map_target(
    layers: NDArray[np.uint16], canvas: tuple[int, int], stride: int, points: NDArray[np.float32]
) -> PromptTarget:
    """Scale points `[N, 3]` (x, y, depth) of a view on a canvas of that height and width."""
    labelled = np.zeros(canvas, bool)
    labelled[: layers.shape[1], : layers.shape[2]] = layers.any(0)
    cells = labelled.reshape(canvas[0] // stride, stride, canvas[1] // stride, stride)
    centre = np.array([0.5, 0.5, 0.0], np.float32)  # of a pixel; a depth has none
    known = np.asarray(cells.any((1, 3)))
    return PromptTarget((points + centre) / np.float32(stride) - centre, known)


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


def prompt_points(layers: NDArray[np.uint16], smallest: int) -> NDArray[np.float32]:
    """Take the innermost pixel of every instance with at least `smallest` pixels.

    Returns:
        `[N, 3]`: x, y and depth, in pixels of the labels.
    """
    return innermost_points(view_instances(layers, smallest))


def innermost_points(instances: list[ViewInstance]) -> NDArray[np.float32]:
    """Return x, y and depth of each instance's innermost pixel, `[N, 3]`."""
    return np.array([(i.x, i.y, i.depth) for i in instances], np.float32).reshape(-1, 3)
