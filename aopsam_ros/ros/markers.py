"""Prompts as RViz markers, in the camera's optical frame.

REP 103: in an optical frame x points right, y down, z forward. With a calibration that fits the
image, a prompt stands on its pixel's ray at `depth` metres. Without one, prompts stand on a plane
z = 0 through the frame's origin, a pixel being `pixel_size` metres: the image as a poster whose top
left pixel is at the origin.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from aopsam_ros.glyphs import PROMPT_STYLES
from aopsam_ros.segmentation import PromptState, Segmentation

NAMESPACE = "prompts"
_COEFFICIENTS = (0, 4, 5, 8, 12, 14)  # numbers of distortion coefficients that cv2 knows


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
    if calibration is not None and fits(calibration, segmentation, header):
        matrix, distortion = _intrinsics(calibration, options.rectified)
        rays = undistorted(pixels, matrix, distortion, calibration.distortion_model)
        if np.isfinite(rays).all():
            points = np.column_stack([rays, np.ones(len(rays))]) * options.depth
            return points, options.size * options.depth / matrix[0, 0]
    on_plane = np.column_stack([pixels * options.pixel_size, np.zeros(len(pixels))])
    return on_plane, options.size * options.pixel_size


def fits(calibration: CameraInfo, segmentation: Segmentation, header: Header) -> bool:
    """Tell whether the calibration is one of this image: same frame and size, focal length set.

    A binned or cropped image has another size than its calibration and is not taken.
    """
    same_size = (calibration.width, calibration.height) == (segmentation.width, segmentation.height)
    same_frame = calibration.header.frame_id == header.frame_id
    whole = max(calibration.binning_x, calibration.binning_y) <= 1
    numbers = np.concatenate([calibration.k, calibration.p, calibration.d])
    focal = min(calibration.k[0], calibration.k[4]) > 0.0
    return bool(same_size and same_frame and whole and focal and np.isfinite(numbers).all())


def _intrinsics(
    calibration: CameraInfo, rectified: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return camera matrix `[3, 3]` and distortion coefficients `[D]` of the image."""
    projection = np.array(calibration.p, np.float64).reshape(3, 4)[:, :3]
    if rectified and min(projection[0, 0], projection[1, 1]) > 0.0:
        return projection, np.zeros(0)
    coefficients = np.array(calibration.d, np.float64)
    if rectified or len(coefficients) not in _COEFFICIENTS:
        coefficients = np.zeros(0)
    return np.array(calibration.k, np.float64).reshape(3, 3), coefficients


def undistorted(
    pixels: NDArray[np.float64],
    matrix: NDArray[np.float64],
    distortion: NDArray[np.float64],
    model: str,
) -> NDArray[np.float64]:
    """Return pixels `[N, 2]` as points `[N, 2]` of the plane at one metre, lens undone."""
    if not distortion.any() or len(pixels) == 0:
        centre = matrix[[0, 1], [2, 2]]
        flat: NDArray[np.float64] = (pixels - centre) / matrix[[0, 1], [0, 1]]
        return flat
    points = pixels[:, None, :]
    if model == "equidistant" and len(distortion) == 4:
        rays = cv2.fisheye.undistortPoints(points, matrix, distortion)
    else:
        rays = cv2.undistortPoints(points, matrix, distortion)
    return np.asarray(rays, np.float64).reshape(-1, 2)


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
