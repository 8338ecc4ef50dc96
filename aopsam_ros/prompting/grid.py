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
# Each point of the sequence R2 is so much of a side from the one before, around the edge: the
# inverse of the plastic number and its square, the "golden ratio" of the plane.
_R2 = 0.7548776662466927, 0.5698402909980532


class GridSource(PromptSource):
    """Every point of a grid; all three masks of each compete, by box IoU, as in SAM's generator."""

    defaults_group = "grid"
    croppable = True  # small objects get a grid of their own
    defaults = {**ALL_PROMPTS, "mask.candidates": "all", "mask.combine": "box_nms"}  # noqa: RUF012
    own_options = ("grid.", "mask.refine")

    def __init__(self, side: int) -> None:
        self.name, self.side = f"grid{side}", side

    def propose(self, frame: FrameInput) -> PromptSet:
        """See `PromptSource`; every point has confidence 1."""
        height, width = frame.geometry.height, frame.geometry.width
        points = grid_points(self.side, height, width)[_grid_order(self.side, height, width)]
        return PromptSet(points, np.ones(len(points), np.float32))


class RandomSource(GridSource):
    """Points in no rows, the same in every image: the sequence R2 of M. Roberts; else as a grid.

    Points drawn independently leave empty discs of ten times their share.
    """

    def __init__(self, count: int) -> None:
        self.name, self.count = f"random{count}", count

    def propose(self, frame: FrameInput) -> PromptSet:
        """See `PromptSource`; every point has confidence 1."""
        width, height = frame.geometry.width, frame.geometry.height
        steps = _R2[::-1] if width > height else _R2  # the other way long images have wider gaps
        points = (0.5 + np.outer(np.arange(self.count), steps)) % 1.0 * (width, height)
        return PromptSet(points, np.ones(len(points), np.float32))


def grid_points(side: int, height: int, width: int) -> NDArray[np.float64]:
    """Return `side` x `side` points half a cell from the border, row by row.

    They are x and y in pixels of an image of `height` x `width`, float64 `[side * side, 2]`.
    """
    return _raster((np.arange(side) + 0.5) / side) * (width, height)


def _raster(steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return x and y of every place of a square raster, row by row."""
    x, y = np.meshgrid(steps, steps)
    return np.stack((x.ravel(), y.ravel()), axis=1)


@functools.lru_cache(maxsize=32)  # a camera has one size, crops a few
def _grid_order(side: int, height: int, width: int) -> NDArray[np.int64]:
    """Order `grid_points`.

    Any first n of them leave no empty disc inside the image of more than 3.4 shares, a share being
    an nth of the image, in images up to 16:9. A regular grid of n points leaves half as much, but
    no order of a large grid in a square image keeps two: as long as one point off the outer ring is
    missing, a disc of one spacing around it is empty, up to 2.4 shares of 16 x 16 points, 2.9 of 64
    x 64.
    """
    places = _raster(np.arange(2 * side + 1) / (2 * side))
    order = spread_order(grid_points(side, 1, 1), places, height, width)
    order.flags.writeable = False
    return order


def spread_order(
    points: NDArray[np.float64], places: NDArray[np.float64], height: int, width: int
) -> NDArray[np.int64]:
    """Order points: each next one lies nearest to the place that is farthest from all before.

    Points, and the places to be covered, are x and y in shares of the image's width and height.
    """
    size = np.array([width, height * _STRETCH] if height < width else [width * _STRETCH, height])

    def squared(ends: NDArray[np.float64], start: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = ((ends - start) * size).T ** 2
        return np.asarray(x + y)

    # Squared distance of each place to the nearest point so far, and to the edge.
    far = (_EDGE * (np.minimum(places, 1.0 - places) * size).min(axis=1)) ** 2
    taken = np.zeros(len(points))  # infinite where a point is
    order = np.empty(len(points), np.int64)
    place = np.array([0.5, 0.5])
    for number in range(len(order)):
        order[number] = chosen = (squared(points, place) + taken).argmin()
        taken[chosen] = np.inf
        np.minimum(far, squared(places, points[chosen]), out=far)
        place = places[far.argmax()]
    return order
