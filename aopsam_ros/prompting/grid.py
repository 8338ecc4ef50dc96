"""A regular grid of point prompts, as SAM's automatic mask generator lays it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MAX_SIDE = 64


def grid_points(side: int, height: int, width: int) -> NDArray[np.float64]:
    """Return `side` x `side` points half a cell from the border, row by row.

    Args:
        side: points along each axis.
        height: of the source image, pixels.
        width: of the source image, pixels.

    Returns:
        x and y in source pixels, float64 `[side * side, 2]`.
    """
    centres = (np.arange(side) + 0.5) / side
    x, y = np.meshgrid(centres * width, centres * height)
    return np.stack((x.ravel(), y.ravel()), axis=1)
