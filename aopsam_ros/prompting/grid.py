"""Point prompts laid out beforehand: a grid, as SAM's automatic mask generator has it, or random.

A budget may end anywhere: the first points, however many, are spread over the whole image.
"""

import functools

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.prompting.prompts import ALL_PROMPTS, FrameInput, PromptSet, PromptSource

MAX_SIDE = 64
MAX_RANDOM = 4096
# A place so many times as near to the image's edge as to a point is as well covered as that point:
# without it, the first points of an order go to edges and corners.
_EDGE = 3.0
# In a square, many places are equally far from all points, and a plain choice among them leaves
# rows: distances along one side count a little more.
_STRETCH = 1.1


class GridSource(PromptSource):
    """Every point of a grid; all three masks of each compete, by box IoU, as in SAM's generator."""

    defaults_group = "grid"
    croppable = True  # small objects get a grid of their own
    defaults = {**ALL_PROMPTS, "mask.candidates": "all", "mask.combine": "box_nms"}  # noqa: RUF012
    own_options = ("grid.",)

    def __init__(self, side: int) -> None:
        self.name, self.side = f"grid{side}", side

    def propose(self, frame: FrameInput) -> PromptSet:
        """See `PromptSource`; every point has confidence 1."""
        height, width = frame.geometry.height, frame.geometry.width
        points = grid_points(self.side, height, width)[spread_order(self.side, height, width)]
        return PromptSet(points, np.ones(len(points), np.float32))


class RandomSource(GridSource):
    """Points anywhere in the image, the same in every one; else as a grid."""

    def __init__(self, count: int) -> None:
        self.name, self.count = f"random{count}", count

    def propose(self, frame: FrameInput) -> PromptSet:
        """See `PromptSource`; every point has confidence 1."""
        size = frame.geometry.width, frame.geometry.height
        points = np.random.default_rng(0).random((self.count, 2)) * size
        return PromptSet(points, np.ones(len(points), np.float32))


def grid_points(side: int, height: int, width: int) -> NDArray[np.float64]:
    """Return `side` x `side` points half a cell from the border, row by row.

    They are x and y in pixels of an image of `height` x `width`, float64 `[side * side, 2]`.
    """
    centres = (np.arange(side) + 0.5) / side
    x, y = np.meshgrid(centres * width, centres * height)
    return np.stack((x.ravel(), y.ravel()), axis=1)


@functools.lru_cache(maxsize=32)  # a camera has one size, crops a few
def spread_order(side: int, height: int, width: int) -> NDArray[np.int64]:
    """Order a grid's points: each next one lies nearest to the place that is farthest from all.

    Any first n of them leave no empty disc in the image of more than 3.3 shares, a share being an
    nth of the image, in images up to 16:9. A regular grid of n points leaves half as much, but no
    order can do much better than pi: that is what a single missing point among others leaves.

    Returns:
        indices of `grid_points`, int64 `[side * side]`.
    """
    x_size, y_size = (width, height * _STRETCH) if height < width else (width * _STRETCH, height)
    centres, steps = (np.arange(side) + 0.5) / side, np.arange(2 * side + 1) / (2 * side)
    to_edge = np.minimum(steps, 1.0 - steps)
    # Squared distance of each place to the nearest point so far, and to the edge.
    far = (_EDGE * np.minimum.outer(to_edge * y_size, to_edge * x_size)) ** 2
    taken = np.zeros((side, side))  # infinite where a point is
    order = np.empty(side * side, np.int64)
    x = y = 0.5
    for place in range(len(order)):
        near = np.add.outer(((centres - y) * y_size) ** 2, ((centres - x) * x_size) ** 2)
        order[place] = chosen = (near + taken).argmin()
        row, column = divmod(int(chosen), side)
        taken[row, column] = np.inf
        away = np.add.outer(
            ((steps - centres[row]) * y_size) ** 2, ((steps - centres[column]) * x_size) ** 2
        )
        np.minimum(far, away, out=far)
        row, column = divmod(int(far.argmax()), len(steps))
        x, y = steps[column], steps[row]
    order.flags.writeable = False
    return order
