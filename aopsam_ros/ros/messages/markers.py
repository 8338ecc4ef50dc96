"""Prompts as RViz markers, in the camera's optical frame.

REP 103: in an optical frame x points right, y down, z forward. With a calibration that fits the
image, a prompt stands on its pixel's ray at `depth` metres. Without one, prompts stand on a plane
z = 0 through the frame's origin, a pixel being `pixel_size` metres: the image as a poster whose top
left pixel is at the origin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from aopsam_ros.drawing.glyphs import PROMPT_STYLES
from aopsam_ros.results import PromptState, Segmentation
from aopsam_ros.ros.messages.camera import CalibratedCamera, misfit

NAMESPACE = "prompts"


@dataclass(frozen=True)
class MarkerOptions:
    """Where markers stand and how large they are."""

    depth: float = 1.0  # metres along the optical axis
    pixel_size: float = 0.001  # metres a pixel, on the plane without a calibration
    size: float = 8.0  # diameter in source image pixels
    rectified: bool = False  # the image is rectified: use the calibration's P, without distortion


class PromptMarkers:
    """Makes marker messages whose ids stay the same; remembers how many are being shown.

    Marker i is the i-th prompt. A frame with fewer prompts deletes the surplus only: deleting all
    and adding them again flickers.
    """

    def __init__(self) -> None:
        """Begin with nothing shown."""
        self._shown = 0
        self._header = Header()

    def message(
        self,
        segmentation: Segmentation,
        header: Header,
        calibration: CameraInfo | None,
        options: MarkerOptions,
    ) -> MarkerArray:
        """Return a sphere per prompt, coloured by its state, and deletions of surplus markers."""
        positions, diameter = place(segmentation, header, calibration, options)
        markers = [
            _sphere(header, index, positions[index], diameter, prompt.state)
            for index, prompt in enumerate(segmentation.prompts)
        ]
        surplus = [_deletion(header, index) for index in range(len(markers), self._shown)]
        self._shown, self._header = len(markers), header
        return MarkerArray(markers=markers + surplus)

    def clear(self) -> MarkerArray:
        """Return the deletion of every marker that is being shown."""
        deletions = [_deletion(self._header, index) for index in range(self._shown)]
        self._shown = 0
        return MarkerArray(markers=deletions)


def place(
    segmentation: Segmentation,
    header: Header,
    calibration: CameraInfo | None,
    options: MarkerOptions,
) -> tuple[NDArray[np.float64], float]:
    """Return the prompts' positions and the markers' diameter, in metres.

    Returns:
        float64 `[N, 3]` in the image's frame, and the diameter.
    """
    pixels = np.array([(p.x, p.y) for p in segmentation.prompts], np.float64).reshape(-1, 2)
    size = (segmentation.height, segmentation.width)
    if calibration is not None and not misfit(calibration, *size, header):
        camera = CalibratedCamera.of(calibration, options.rectified)
        rays = camera.rays(pixels)
        if np.isfinite(rays).all():
            points = np.column_stack([rays, np.ones(len(rays))]) * options.depth
            return points, options.size * options.depth / camera.focal_length
    on_plane = np.column_stack([pixels * options.pixel_size, np.zeros(len(pixels))])
    return on_plane, options.size * options.pixel_size


def _sphere(
    header: Header, index: int, position: NDArray[np.float64], diameter: float, state: PromptState
) -> Marker:
    red, green, blue = (channel / 255.0 for channel in PROMPT_STYLES[state].colour)
    x, y, z = map(float, position)
    return Marker(
        header=header,
        ns=NAMESPACE,
        id=index,
        type=Marker.SPHERE,
        action=Marker.ADD,
        pose=Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(w=1.0)),
        scale=Vector3(x=diameter, y=diameter, z=diameter),
        color=ColorRGBA(r=red, g=green, b=blue, a=1.0),
        lifetime=Duration(),
    )


def _deletion(header: Header, index: int) -> Marker:
    return Marker(header=header, ns=NAMESPACE, id=index, action=Marker.DELETE)
