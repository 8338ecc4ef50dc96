"""How a thing, and what is around it, moved since the frame before: shift, turn and size."""

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.streaming.camera_motion import thumbnail_of

SIDE = 320  # pixels of the longer side that frames are compared at
MOST_CORNERS, LEAST_CORNERS = 80, 6
LARGEST_ERROR = 2.0  # pixels from a corner to where it leads back to

Affine = NDArray[np.float64]  # `[2, 3]`
STANDING: Affine = np.eye(2, 3)


class ObjectMotion:
    """Follows corners inside a mask, and outside, from each frame to the next (Lucas-Kanade)."""

    def __init__(self) -> None:
        self._before: NDArray[np.uint8] | None = None  # grey, of the frame before
        self._inside: NDArray[np.bool_] | None = None  # the thing in it, at any resolution

    def look_at(self, mask: NDArray[np.bool_]) -> None:
        """Say where the thing is in the last frame, bool `[rows, columns]` over the whole image."""
        self._inside = mask

    def update(self, rgb: NDArray[np.uint8], cells: tuple[int, int]) -> tuple[Affine, Affine]:
        """Take the next frame, `[H, W, 3]`; return how the thing and its surroundings moved.

        They are similarity transforms of the indices (x, y) of a map over the image with so many
        rows and columns; of no motion where too little is seen.
        """
        grey = thumbnail_of(rgb, SIDE).astype(np.uint8)
        before, self._before = self._before, grey
        if before is None or self._inside is None or before.shape != grey.shape:
            return STANDING, STANDING
        own, around = (_motion(before, grey, part) for part in (self._inside, ~self._inside))
        return _of_cells(own, grey, cells), _of_cells(around, grey, cells)


def _of_cells(moved: Affine, grey: NDArray[np.uint8], cells: tuple[int, int]) -> Affine:
    """Return a motion of a frame's pixels as one of the cells of a map over it."""
    # Pixels are to cells as their counts, and centres lie half of one from the corner.
    scale = np.array([cells[1] / grey.shape[1], cells[0] / grey.shape[0]])
    linear = moved[:, :2] * scale[:, None] / scale[None]
    half = np.full(2, 0.5)
    offset = scale * (moved[:, 2] + moved[:, :2] @ (half / scale - half) + half) - half
    return np.column_stack((linear, offset))


def moved_map(
    values: NDArray[np.float32], motion: Affine, fill: float | None = None
) -> NDArray[np.float32]:
    """Move a map `[rows, columns]` as `ObjectMotion.update` says.

    `fill` is the value of what it uncovers; None: that of the nearest cell.
    """
    mode = cv2.BORDER_REPLICATE if fill is None else cv2.BORDER_CONSTANT
    size, value = values.shape[::-1], (fill or 0.0,)
    return np.asarray(cv2.warpAffine(values, motion, size, borderMode=mode, borderValue=value))


def _motion(
    before: NDArray[np.uint8], after: NDArray[np.uint8], inside: NDArray[np.bool_]
) -> Affine:
    """Return the similarity transform of pixels that most corners inside the mask agree on."""
    size = before.shape[::-1]
    mask = cv2.resize(inside.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    # Spread, so that the most are not on what has the sharpest corners, such as what hides a thing.
    spacing = max(3.0, 0.7 * float(np.sqrt(np.count_nonzero(mask) / MOST_CORNERS)))
    corners = cv2.goodFeaturesToTrack(before, MOST_CORNERS, 0.01, spacing, mask=mask)
    if corners is None or len(corners) < LEAST_CORNERS:
        return STANDING
    there, found, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, None)
    back, found_back, _ = cv2.calcOpticalFlowPyrLK(after, before, there, None)
    error = np.linalg.norm(corners - back, axis=2)[:, 0]
    good = (found[:, 0] > 0) & (found_back[:, 0] > 0) & (error < LARGEST_ERROR)
    if np.count_nonzero(good) < LEAST_CORNERS:
        return STANDING
    old, new = corners[good, 0], there[good, 0]
    affine, _ = cv2.estimateAffinePartial2D(old, new, ransacReprojThreshold=2.0)
    if affine is None or not 0.5 < np.hypot(affine[0, 0], affine[1, 0]) < 2.0:
        return np.column_stack((np.eye(2), np.median(new - old, axis=0)))
    return np.asarray(affine, np.float64)
