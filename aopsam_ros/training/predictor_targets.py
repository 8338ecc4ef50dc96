"""Target maps of the Prompt Predictor: where a good prompt lies."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.training.prompt_sampling import innermost_pixel

UNIFORM_SIZE = 3
GAUSSIAN_SIGMA = 2.0


def spread_points(points: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Put points on a blank map and spread each with a uniform plus a Gaussian kernel.

    The paper names the two kernels but not their sizes; here 3 x 3 and sigma 2 map pixels. Points
    that come close do not add up: the map keeps the larger value, so that every peak is one.

    Args:
        points: `[N, 2]`, x and y in pixels of the map.
        size: Height and width of the map.

    Returns:
        `float32 [height, width]` in 0-1, 1 at each point.
    """
    kernel = _kernel()
    reach = kernel.shape[0] // 2
    target = np.zeros((size[0] + 2 * reach, size[1] + 2 * reach), np.float32)
    for x, y in points:
        column, row = round(float(x)), round(float(y))
        if 0 <= row < size[0] and 0 <= column < size[1]:
            window = target[row : row + 2 * reach + 1, column : column + 2 * reach + 1]
            np.maximum(window, kernel, out=window)
    return target[reach:-reach, reach:-reach]


def _kernel() -> NDArray[np.float32]:
    reach = int(3 * GAUSSIAN_SIGMA)
    line = cv2.getGaussianKernel(2 * reach + 1, GAUSSIAN_SIGMA, cv2.CV_32F)
    gaussian = (line @ line.T) / float(line.max() ** 2)
    uniform = np.zeros_like(gaussian)
    middle, half = reach, UNIFORM_SIZE // 2
    uniform[middle - half : middle + half + 1, middle - half : middle + half + 1] = 1.0
    return np.asarray(0.5 * gaussian + 0.5 * uniform, np.float32)


def prompt_points(layers: NDArray[np.uint16], smallest: int) -> NDArray[np.float32]:
    """Take the innermost pixel of every instance with at least `smallest` pixels, `[N, 2]`."""
    points = []
    for layer in layers:
        counts = np.bincount(layer.ravel())
        labels = [label for label in range(1, len(counts)) if counts[label] >= smallest]
        points += [innermost_pixel(layer == label) for label in labels]
    return np.array(points, np.float32).reshape(-1, 2)
