"""Masks and prompts as 2D image markers: what Foxglove's image panel draws over a camera's image.

One marker a frame and topic: the panel shows a topic's newest message only. Nothing is left over
from the frame before, so nothing has to be deleted.
"""

from __future__ import annotations

from collections.abc import Sequence

from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import ImageMarker

from aopsam_ros.drawing.glyphs import PROMPT_STYLES
from aopsam_ros.drawing.overlay import colour_of
from aopsam_ros.masks import to_polygons
from aopsam_ros.results import Segmentation

TOLERANCE = 1.0  # pixels that an outline may stray: it is to look at, and points cost time
LINE_WIDTH = 2.0  # image pixels
POINT_SIZE = 8.0


def outlines(segmentation: Segmentation, header: Header) -> ImageMarker:
    """Return the outlines of all masks as lines, each in its mask's colour."""
    marker = _marker("masks", ImageMarker.LINE_LIST, LINE_WIDTH, header)
    for mask in segmentation.masks:
        colour = _colour(colour_of(mask.id))
        for polygon in to_polygons(mask, TOLERANCE):
            corners = [Point(x=float(x), y=float(y)) for x, y in polygon.tolist()]
            for first, second in zip(corners, corners[1:] + corners[:1], strict=True):
                marker.points += [first, second]
            marker.outline_colors += [colour] * len(corners)
    return marker


def prompt_points(segmentation: Segmentation, header: Header) -> ImageMarker:
    """Return all prompts as points, coloured by what became of them."""
    marker = _marker("prompts", ImageMarker.POINTS, POINT_SIZE, header)
    colours = {state: _colour(style.colour) for state, style in PROMPT_STYLES.items()}
    for prompt in segmentation.prompts:
        marker.points.append(Point(x=float(prompt.x), y=float(prompt.y)))
        marker.outline_colors.append(colours[prompt.state])
    return marker


def _marker(namespace: str, kind: int, scale: float, header: Header) -> ImageMarker:
    marker = ImageMarker(header=header, ns=namespace, type=kind, action=ImageMarker.ADD)
    marker.scale = scale
    marker.outline_color = marker.fill_color = ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)
    return marker


def _colour(rgb: Sequence[int]) -> ColorRGBA:
    red, green, blue = (channel / 255.0 for channel in rgb)
    return ColorRGBA(r=red, g=green, b=blue, a=1.0)
