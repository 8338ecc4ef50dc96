"""Prompts and masks as markers: in the camera's optical frame for RViz, on the image for Foxglove.

REP 103: in an optical frame x points right, y down, z forward. With a calibration that fits the
image, a prompt stands on its pixel's ray at `depth` metres. Without one, prompts stand on a plane
z = 0 through the frame's origin, a pixel being `pixel_size` metres: the image as a poster whose top
left pixel is at the origin.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Vector3
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import ImageMarker, Marker, MarkerArray

from aopsam_ros.drawing.palette import PROMPT_STYLES, colour_of
from aopsam_ros.masks import to_polygons
from aopsam_ros.results import Segmentation
from aopsam_ros.ros.messages.camera import CalibratedCamera, calibration_mismatch
from aopsam_ros.ros.transforms import Transform
from aopsam_ros.space.boxes_3d import Box3D

EDGE_WIDTH = 0.005  # metres
OUTLINE_TOLERANCE = 1.0  # pixels that an outline may deviate: each further point costs time
OUTLINE_WIDTH = 2.0  # image pixels
POINT_SIZE = 8.0  # image pixels


@dataclass(frozen=True)
class MarkerOptions:
    """Where markers stand and how large they are."""

    depth: float = 1.0  # metres along the optical axis
    pixel_size: float = 0.001  # metres a pixel, on the plane without a calibration
    size: float = 8.0  # diameter in source image pixels
    lifetime: float = 10.0  # seconds, if no newer ones come
    rectified: bool = False  # the image is rectified: use the calibration's P, without distortion


def prompt_markers(
    segmentation: Segmentation,
    header: Header,
    calibration: CameraInfo | None,
    options: MarkerOptions,
    transform: Transform | None = None,
) -> MarkerArray:
    """Return the prompts as spheres: a list of them for each state, in a namespace of its name."""
    positions, diameter = place(segmentation, header, calibration, options)
    if transform is not None:
        positions, header = transform.points(positions), transform.header
    states = np.array([prompt.state for prompt in segmentation.prompts], np.int64)
    placed = np.isfinite(positions).all(axis=1)
    markers = []
    for state, style in PROMPT_STYLES.items():
        points = positions[placed & (states == state)]
        marker = list_marker(
            header, state.name.lower(), Marker.SPHERE_LIST, points, options.lifetime
        )
        marker.scale = Vector3(x=diameter, y=diameter, z=diameter)
        marker.color = _colour(style.colour)
        markers.append(marker)
    return MarkerArray(markers=markers)


def box_markers(
    segmentation: Segmentation,
    boxes: Sequence[Box3D | None],
    header: Header,
    options: MarkerOptions,
) -> MarkerArray:
    """Return the edges of the masks' boxes in space, each in its mask's colour."""
    found = [(m, b) for m, b in zip(segmentation.masks, boxes, strict=True) if b is not None]
    edges = [box.edges() for _, box in found]
    points = np.concatenate(edges) if edges else np.zeros((0, 3))
    marker = list_marker(header, "boxes_3d", Marker.LINE_LIST, points, options.lifetime)
    marker.scale.x = EDGE_WIDTH
    marker.colors = [
        _colour(colour_of(mask.id))
        for (mask, _), own in zip(found, edges, strict=True)
        for _ in own
    ]
    return MarkerArray(markers=[marker])


def list_marker(
    header: Header, namespace: str, kind: int, points: NDArray[np.float64], lifetime: float
) -> Marker:
    """Return the one marker of a namespace; its deletion where there are no points.

    `points` are `[N, 3]`, metres in the header's frame.
    It is replaced by the next one, and vanishes after `lifetime` seconds (0: never).
    """
    marker = Marker(header=header, ns=namespace, type=kind)
    marker.action = Marker.ADD if len(points) else Marker.DELETE
    marker.pose.orientation.w = 1.0
    marker.points = [Point(x=x, y=y, z=z) for x, y, z in points.tolist()]
    seconds, nanoseconds = divmod(round(lifetime * 1e9), 1_000_000_000)
    marker.lifetime = Duration(sec=seconds, nanosec=nanoseconds)
    return marker


def delete_all(header: Header) -> Marker:
    """Return the deletion of all markers that a display has of the topic."""
    return Marker(header=header, action=Marker.DELETEALL)


def place(
    segmentation: Segmentation,
    header: Header,
    calibration: CameraInfo | None,
    options: MarkerOptions,
) -> tuple[NDArray[np.float64], float]:
    """Return the prompts' positions in the image's frame, `[N, 3]`, and the markers' diameter.

    Both are in metres. A prompt that the calibration gives no place has a position of NaN.
    """
    pixels = np.array([(p.x, p.y) for p in segmentation.prompts], np.float64).reshape(-1, 2)
    size = (segmentation.height, segmentation.width)
    if calibration is not None and not calibration_mismatch(calibration, *size, header):
        camera = CalibratedCamera.of(calibration, options.rectified)
        rays = camera.rays(pixels)
        points = np.column_stack([rays, np.ones(len(rays))]) * options.depth
        return points, float(options.size * options.depth / camera.matrix[0, 0])
    on_plane = np.column_stack([pixels * options.pixel_size, np.zeros(len(pixels))])
    return on_plane, options.size * options.pixel_size


# One image marker a frame and topic: Foxglove's image panel shows a topic's newest message only, so
# nothing of the frame before has to be deleted.


def outlines(segmentation: Segmentation, header: Header) -> ImageMarker:
    """Return the outlines of all masks as lines, each in its mask's colour."""
    marker = _image_marker("masks", ImageMarker.LINE_LIST, OUTLINE_WIDTH, header)
    for mask in segmentation.masks:
        colour = _colour(colour_of(mask.id))
        for polygon in to_polygons(mask, OUTLINE_TOLERANCE):
            corners = [Point(x=float(x), y=float(y)) for x, y in polygon.tolist()]
            for first, second in zip(corners, corners[1:] + corners[:1], strict=True):
                marker.points += [first, second]
            marker.outline_colors += [colour] * len(corners)
    return marker


def prompt_points(segmentation: Segmentation, header: Header) -> ImageMarker:
    """Return all prompts as points, coloured by their state."""
    marker = _image_marker("prompts", ImageMarker.POINTS, POINT_SIZE, header)
    colours = {state: _colour(style.colour) for state, style in PROMPT_STYLES.items()}
    for prompt in segmentation.prompts:
        marker.points.append(Point(x=float(prompt.x), y=float(prompt.y)))
        marker.outline_colors.append(colours[prompt.state])
    return marker


def _image_marker(namespace: str, kind: int, scale: float, header: Header) -> ImageMarker:
    marker = ImageMarker(header=header, ns=namespace, type=kind, action=ImageMarker.ADD)
    marker.scale = scale
    marker.outline_color = marker.fill_color = ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)
    return marker


def _colour(rgb: Sequence[int]) -> ColorRGBA:
    red, green, blue = (channel / 255.0 for channel in rgb)
    return ColorRGBA(r=red, g=green, b=blue, a=1.0)
