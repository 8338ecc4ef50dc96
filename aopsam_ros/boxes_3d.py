"""From masks and a depth image to boxes in space, in the camera's optical frame (REP 103)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.errors import InputError
from aopsam_ros.segmentation import InstanceMask

MOST_POINTS = 2000  # of one mask: more cost time and change the box by millimetres
FEWEST_POINTS = 8
OUTLIER_DEVIATIONS = 3.0  # robust standard deviations from the mask's median depth
TO_STANDARD_DEVIATION = 1.4826  # of a normal distribution, from its median absolute deviation
LEAST_SPREAD = 0.005  # of the median depth: what any depth camera errs by


@dataclass(frozen=True)
class Pinhole:
    """An ideal camera: focal lengths and principal point, pixels (CameraInfo's K or P)."""

    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self) -> None:
        """Refuse what is no camera; an uncalibrated CameraInfo is all zeros."""
        values = (self.fx, self.fy, self.cx, self.cy)
        if not all(np.isfinite(values)) or self.fx <= 0 or self.fy <= 0:
            raise InputError("the camera is not calibrated: its focal lengths must be above 0")

    def deproject(
        self, columns: NDArray[np.int64], rows: NDArray[np.int64], depth: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """Points in metres `[n, 3]` (x right, y down, z forward) of pixels and their depth."""
        x = (columns - self.cx) / self.fx * depth
        y = (rows - self.cy) / self.fy * depth
        return np.stack([x, y, depth], 1).astype(np.float64)


@dataclass(frozen=True)
class Box3D:
    """A box in space.

    `center` and `size` in metres, along the box's own axes, which are the columns of `rotation`
    (3 x 3, right-handed); `points` is how many depth pixels it was made from.
    """

    center: NDArray[np.float64]
    size: NDArray[np.float64]
    rotation: NDArray[np.float64]
    points: int

    def quaternion(self) -> tuple[float, float, float, float]:
        """Return the rotation as a unit quaternion x, y, z, w with w at least 0."""
        from scipy.spatial.transform import Rotation

        x, y, z, w = Rotation.from_matrix(self.rotation).as_quat().tolist()
        return (-x, -y, -z, -w) if w < 0 else (x, y, z, w)


def metres(depth: NDArray[np.float32] | NDArray[np.uint16]) -> NDArray[np.float32]:
    """Return a depth image in metres, NaN where it is unknown (REP 118).

    Args:
        depth: `[H, W]`, float32 metres (32FC1) or uint16 millimetres with 0 unknown (16UC1).

    Raises:
        InputError: if it is of another type or shape.
    """
    if depth.ndim != 2 or depth.dtype not in (np.float32, np.uint16):
        raise InputError("depth must be [H, W] of 32-bit float metres or 16-bit millimetres")
    if depth.dtype == np.uint16:
        return np.where(depth > 0, depth.astype(np.float32) / 1000.0, np.float32(np.nan))
    known = np.isfinite(depth) & (depth > 0)
    return np.asarray(np.where(known, depth, np.nan), np.float32)


def points_of(
    mask: InstanceMask, depth: NDArray[np.float32], camera: Pinhole
) -> NDArray[np.float64]:
    """Return the points in space of a mask's pixels, what is far off the others left out.

    Args:
        mask: of an image of the depth image's size.
        depth: metres `[H, W]`, NaN where unknown.
        camera: of that image.

    Returns:
        `[n, 3]` metres, at most `MOST_POINTS`; pixels at even distances, not the first ones.
    """
    x, y, width, height = mask.bbox
    inside = mask.crop() & ~np.isnan(depth[y : y + height, x : x + width])
    rows, columns = np.nonzero(inside)
    chosen = np.linspace(0, len(rows) - 1, min(len(rows), MOST_POINTS)).astype(np.int64)
    rows, columns = rows[chosen] + y, columns[chosen] + x
    values = depth[rows, columns]
    kept = _inliers(values)
    return camera.deproject(columns[kept], rows[kept], values[kept])


def _inliers(depths: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell the object from the background that shines through at its outline."""
    if len(depths) == 0:
        return np.zeros(0, np.bool_)
    median = float(np.median(depths))
    distance = np.abs(depths - median)
    spread = max(TO_STANDARD_DEVIATION * float(np.median(distance)), LEAST_SPREAD * median)
    return np.asarray(distance <= OUTLIER_DEVIATIONS * spread, np.bool_)


def fit_box(points: NDArray[np.float64], oriented: bool) -> Box3D | None:
    """Put a box around points; None where there are too few.

    Args:
        points: `[n, 3]`, metres.
        oriented: along the points' principal axes (longest first), else along the frame's.
    """
    if len(points) < FEWEST_POINTS:
        return None
    rotation = _principal_axes(points) if oriented else np.eye(3)
    own = points @ rotation
    low, high = own.min(0), own.max(0)
    return Box3D(rotation @ ((low + high) / 2), high - low, rotation, len(points))


def _principal_axes(points: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = points - points.mean(0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    rotation = axes[:, ::-1].copy()
    # The sign of an eigenvector is arbitrary; fixed here, so that boxes do not flip between frames.
    for axis in range(2):
        if rotation[np.abs(rotation[:, axis]).argmax(), axis] < 0:
            rotation[:, axis] *= -1
    rotation[:, 2] = np.cross(rotation[:, 0], rotation[:, 1])
    return np.asarray(rotation, np.float64)
