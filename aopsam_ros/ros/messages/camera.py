"""A CameraInfo as the camera that it describes."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from aopsam_ros.errors import quoted

WIDEST = np.deg2rad(87.0)  # off a fisheye camera's axis: 19 m to the side at 1 m ahead
_COEFFICIENTS = (0, 4, 5, 8, 12, 14)  # numbers of distortion coefficients that cv2 knows


def calibration_mismatch(calibration: CameraInfo, height: int, width: int, header: Header) -> str:
    """Return why a calibration is none of an image; empty where it is one.

    It has to be of the same frame and size, with focal lengths. A binned or cropped image has
    another size than its calibration and is not taken.
    """
    if (calibration.width, calibration.height) != (width, height):
        return (
            f"camera_info is of {calibration.width}x{calibration.height} pixels, the image of "
            f"{width}x{height}"
        )
    if calibration.header.frame_id != header.frame_id:
        return (
            f"camera_info is in frame {quoted(calibration.header.frame_id)}, the image in "
            f"{quoted(header.frame_id)}"
        )
    if max(calibration.binning_x, calibration.binning_y) > 1:
        return "camera_info is of a binned image"
    numbers = np.concatenate([calibration.k, calibration.p, calibration.d])
    if min(calibration.k[0], calibration.k[4]) <= 0.0 or not np.isfinite(numbers).all():
        return "camera_info is not calibrated: its focal lengths must be above 0"
    return ""


@dataclass(frozen=True)
class CalibratedCamera:
    """Camera matrix `[3, 3]`, distortion coefficients `[D]` and their model."""

    matrix: NDArray[np.float64]
    distortion: NDArray[np.float64]
    model: str

    @classmethod
    def of(cls, calibration: CameraInfo, rectified: bool) -> CalibratedCamera:
        """Read a calibration; where the image is rectified, P counts and there is no distortion."""
        projection = np.array(calibration.p, np.float64).reshape(3, 4)[:, :3]
        if rectified and min(projection[0, 0], projection[1, 1]) > 0.0:
            return cls(projection, np.zeros(0), calibration.distortion_model)
        coefficients = np.array(calibration.d, np.float64)
        if rectified or len(coefficients) not in _COEFFICIENTS:
            coefficients = np.zeros(0)
        matrix = np.array(calibration.k, np.float64).reshape(3, 3)
        return cls(matrix, coefficients, calibration.distortion_model)

    def rays(self, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return pixels `[n, 2]` as points `[n, 2]` of the plane at one metre, lens undone.

        NaN where a fisheye camera sees no point of it: `WIDEST` off the optical axis and beyond.
        """
        centre = self.matrix[[0, 1], [2, 2]]
        flat: NDArray[np.float64] = (pixels - centre) / self.matrix[[0, 1], [0, 1]]
        is_fisheye = self.model == "equidistant" and len(self.distortion) == 4
        if len(pixels) == 0 or not (is_fisheye or self.distortion.any()):
            return flat
        points = np.ascontiguousarray(pixels)[:, None, :]
        if not is_fisheye:
            rays = cv2.undistortPoints(points, self.matrix, self.distortion)
            return np.asarray(rays, np.float64).reshape(-1, 2)
        rays = cv2.fisheye.undistortPoints(points, self.matrix, self.distortion).reshape(-1, 2)
        # cv2 cuts angles at a right one, and mirrors what lies beyond.
        seen = np.hypot(*flat.T) < np.pi / 2
        seen &= (np.hypot(*rays.T) < np.tan(WIDEST)) & ((rays * flat).sum(axis=1) >= 0)
        return np.where(seen[:, None], rays, np.nan)
