"""How one thing moved since the frame before: shift, turn and size, by optical flow inside it."""

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 320  # pixels of the longer side that frames are compared at
MOST_CORNERS, LEAST_CORNERS = 80, 6
LARGEST_ERROR = 2.0  # pixels from a corner to where it leads back to
BACKGROUND_LOGIT = -6.0  # of what a moved mask uncovers

Affine = NDArray[np.float64]  # `[2, 3]`
STANDING: Affine = np.eye(2, 3)


class ObjectMotion:
    """Follows corners inside a mask (Lucas-Kanade) from each frame to the next."""

    def __init__(self) -> None:
        self._before: NDArray[np.uint8] | None = None  # grey, of the frame before
        self._inside: NDArray[np.bool_] | None = None  # the thing in it, at any resolution

    def look_at(self, mask: NDArray[np.bool_]) -> None:
        """Say where the thing is in the last frame, bool `[rows, columns]` over the whole image."""
        self._inside = mask

    def update(self, rgb: NDArray[np.uint8], cells: tuple[int, int]) -> Affine:
        """Take the next frame and return how the thing moved, in cells of a map.

        Args:
            rgb: uint8 `[H, W, 3]`.
            cells: rows and columns of the map that show the image.

        Returns:
            a similarity transform of cell indices (x, y); of no motion where too little is seen.
        """
        grey = _grey(rgb)
        before, self._before = self._before, grey
        if before is None or self._inside is None or before.shape != grey.shape:
            return STANDING
        moved = _motion(before, grey, self._inside)
        # Pixels are to cells as their counts, and centres lie half of one from the corner.
        scale = np.array([cells[1] / grey.shape[1], cells[0] / grey.shape[0]])
        linear = moved[:, :2] * scale[:, None] / scale[None]
        half = np.full(2, 0.5)
        offset = scale * (moved[:, 2] + moved[:, :2] @ (half / scale - half) + half) - half
        return np.column_stack((linear, offset))


def moved_logits(logits: NDArray[np.float32], motion: Affine) -> NDArray[np.float32]:
    """Move a mask's logits `[M, M]` as `ObjectMotion.update` says."""
    return np.asarray(
        cv2.warpAffine(
            logits,
            motion,
            logits.shape[::-1],
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=(BACKGROUND_LOGIT,),
        ),
        np.float32,
    )


def _grey(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = rgb.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)


def _motion(
    before: NDArray[np.uint8], after: NDArray[np.uint8], inside: NDArray[np.bool_]
) -> Affine:
    """Return the similarity transform of pixels that most corners inside the mask agree on."""
    size = before.shape[::-1]
    mask = cv2.resize(inside.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    corners = cv2.goodFeaturesToTrack(before, MOST_CORNERS, 0.01, 3, mask=mask)
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
