"""A regular grid of point prompts, as SAM's automatic mask generator lays it."""

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.prompting.prompts import FrameInput, PromptSet, PromptSource

MAX_SIDE = 64


class GridSource(PromptSource):
    """Every point of a grid; all three masks of each compete, by box IoU, as in SAM's generator."""

    defaults_group = "grid"
    croppable = True  # small objects get a grid of their own
    mask_options = {"mask.candidates": "all", "mask.combine": "box_nms"}  # noqa: RUF012

    def __init__(self, side: int) -> None:
        self.name, self.side = f"grid{side}", side

    def propose(self, frame: FrameInput) -> PromptSet:
        """See `PromptSource`; every point has confidence 1."""
        points = grid_points(self.side, frame.geometry.height, frame.geometry.width)
        return PromptSet(points, np.ones(len(points), np.float32))


def grid_points(side: int, height: int, width: int) -> NDArray[np.float64]:
    """Return `side` x `side` points half a cell from the border, row by row.

    They are x and y in pixels of an image of `height` x `width`, float64 `[side * side, 2]`.
    """
    centres = (np.arange(side) + 0.5) / side
    x, y = np.meshgrid(centres * width, centres * height)
    return np.stack((x.ravel(), y.ravel()), axis=1)
