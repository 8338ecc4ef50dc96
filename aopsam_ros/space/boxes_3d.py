"""From masks and a depth image to boxes in space, in the camera's optical frame (REP 103)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.errors import InputError
from aopsam_ros.masks.rle import decode
from aopsam_ros.results import InstanceMask

MOST_POINTS = 2000  # of one mask: more cost time and change the box by millimetres
FEWEST_POINTS = 8
OUTLIER_DEVIATIONS = 3.0  # robust standard deviations from the mask's median depth
TO_STANDARD_DEVIATION = 1.4826  # of a normal distribution, from its median absolute deviation
LEAST_SPREAD = 0.005  # of the median depth: what any depth camera errs by
MOST_SKEW = 1.02  # ratio of the aspects of depth and image: sizes are rounded
# Metres; beyond is no depth, such as the largest float, which some drivers send.
FARTHEST = 10_000.0
OPTICAL = "optical"


class Camera(Protocol):
    """Where an image's pixels look."""

    def rays(self, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return pixels `[n, 2]` (x, y) as points `[n, 2]` of the plane at one metre, or NaN."""


class DepthMap:
    """The depth of an image: of the same field of view, not necessarily of the same size.

    A depth pixel belongs to the image pixel that its centre lies in.
    """

    def __init__(self, metres: NDArray[np.float32], height: int, width: int) -> None:
        """Lay depth `[h, w]`, metres, NaN where unknown, over an image of `height` x `width`.

        Raises:
            InputError: if their shapes are too different to show the same view.
        """
        rows, columns = metres.shape
        skew = columns * height / (rows * width)
        if not 1 / MOST_SKEW < skew < MOST_SKEW:
            raise InputError(
                f"depth of {columns}x{rows} pixels does not show the view of an image of "
                f"{width}x{height}"
            )
        self.metres = metres
        self._share = rows * columns / (height * width)
        # Centres of the depth image's rows and columns, as coordinates of the image.
        self.y = (np.arange(rows) + 0.5) * (height / rows) - 0.5
        self.x = (np.arange(columns) + 0.5) * (width / columns) - 0.5

    def of(self, mask: InstanceMask) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Return the image coordinates `[n, 2]` and depths `[n]` of a mask's known pixels.

        At most `MOST_POINTS`, at even distances.
        """
        left, top, width, height = mask.bbox
        y, x = np.rint(self.y).astype(np.int64) - top, np.rint(self.x).astype(np.int64) - left
        # Every second, every third, ... row and column.
        step = max(1, int((mask.area * self._share / MOST_POINTS) ** 0.5))
        rows = np.flatnonzero((y >= 0) & (y < height))[::step]
        columns = np.flatnonzero((x >= 0) & (x < width))[::step]
        window = np.ix_(rows, columns)
        inside = decode(mask)[np.ix_(y[rows], x[columns])] & ~np.isnan(self.metres[window])
        at_rows, at_columns = np.nonzero(inside)
        chosen = np.linspace(0, len(at_rows) - 1, min(len(at_rows), MOST_POINTS)).astype(np.int64)
        at_rows, at_columns = rows[at_rows[chosen]], columns[at_columns[chosen]]
        pixels = np.stack([self.x[at_columns], self.y[at_rows]], 1)
        return pixels, self.metres[at_rows, at_columns]


@dataclass(frozen=True)
class Box3D:
    """A box in space.

    `center` and `size` in metres, along the box's own axes, which are the columns of `rotation`
    (3 x 3, right-handed).
    """

    center: NDArray[np.float64]
    size: NDArray[np.float64]
    rotation: NDArray[np.float64]

    def edges(self) -> NDArray[np.float64]:
        """Return both ends of the 12 edges, `[24, 3]` metres."""
        signs = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
        corners = self.center + (signs * self.size / 2) @ self.rotation.T
        pairs = [(i, i | bit) for bit in (1, 2, 4) for i in range(8) if not i & bit]
        return np.asarray(corners[np.ravel(pairs)], np.float64)

    def quaternion(self) -> tuple[float, float, float, float]:
        """Return the rotation as a unit quaternion x, y, z, w with w at least 0."""
        from scipy.spatial.transform import Rotation

        x, y, z, w = Rotation.from_matrix(self.rotation).as_quat().tolist()
        return (-x, -y, -z, -w) if w < 0 else (x, y, z, w)


def metres(depth: NDArray[np.float32] | NDArray[np.uint16]) -> NDArray[np.float32]:
    """Return a depth image `[H, W]` in metres, NaN where it is unknown (REP 118).

    Float32 images are metres (32FC1), uint16 ones millimetres with 0 unknown (16UC1).

    Raises:
        InputError: if it is of another type or shape.
    """
    if depth.ndim != 2 or depth.dtype not in (np.float32, np.uint16):
        raise InputError("depth must be [H, W] of 32-bit float metres or 16-bit millimetres")
    if depth.dtype == np.uint16:
        return np.where(depth > 0, depth.astype(np.float32) / 1000.0, np.float32(np.nan))
    known = (depth > 0) & (depth < FARTHEST)
    return np.asarray(np.where(known, depth, np.nan), np.float32)


def points_of(mask: InstanceMask, depth: DepthMap, camera: Camera) -> NDArray[np.float64]:
    """Return the points in space of a mask's pixels, what is far off the others left out.

    They are `[n, 3]` metres, x right, y down, z forward; those of pixels without a ray are missing.
    """
    pixels, depths = depth.of(mask)
    kept = _inliers(depths)
    along = depths[kept].astype(np.float64)[:, None]
    points = np.concatenate([camera.rays(pixels[kept]) * along, along], 1)
    return points[(np.abs(points) < FARTHEST).all(axis=1)]


def _inliers(depths: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell the object from the background that shines through at its outline."""
    if len(depths) == 0:
        return np.zeros(0, np.bool_)
    median = float(np.median(depths))
    distance = np.abs(depths - median)
    spread = max(TO_STANDARD_DEVIATION * float(np.median(distance)), LEAST_SPREAD * median)
    return np.asarray(distance <= OUTLIER_DEVIATIONS * spread, np.bool_)


def fit_box(points: NDArray[np.float64], axes: str = OPTICAL) -> Box3D | None:
    """Put a box along some of `AXES` around points `[n, 3]`; None where there are too few."""
    if len(points) < FEWEST_POINTS:
        return None
    rotation = AXES[axes](points)
    own = points @ rotation
    low, high = own.min(0), own.max(0)
    return Box3D(rotation @ ((low + high) / 2), high - low, rotation)


def _optical_axes(_points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.eye(3)


def _upright_axes(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn about the camera's y axis only: the smallest rectangle around the points from above."""
    _, _, degrees = cv2.minAreaRect(points[:, [0, 2]].astype(np.float32))
    # A rectangle is the same after a quarter turn; fixed here, so that boxes do not flip.
    angle = np.deg2rad((degrees + 45.0) % 90.0 - 45.0)
    across = np.array([np.cos(angle), 0.0, np.sin(angle)])
    down = np.array([0.0, 1.0, 0.0])
    return np.stack([across, down, np.cross(across, down)], 1)


def _principal_axes(points: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = points - points.mean(0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    # The sign of an eigenvector is arbitrary; fixed here, so that boxes do not flip between frames.
    rotation = axes[:, ::-1] * np.sign(axes[np.abs(axes).argmax(0), range(3)])[::-1]
    rotation[:, 2] = np.cross(rotation[:, 0], rotation[:, 1])
    return np.asarray(rotation, np.float64)


AXES: Mapping[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    OPTICAL: _optical_axes,
    "upright": _upright_axes,
    "principal": _principal_axes,  # longest first
}
