"""How far the whole image moved since the frame before."""

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 160  # pixels of the longer side that frames are compared at, whatever their resolution
LEAST_SIDE = 16
LEAST_RESPONSE = 0.2  # of the correlation's peak, 0 to 1; frames without much in common have less

Thumbnail = NDArray[np.float32]  # grey levels, 0 to 255


class CameraMotion:
    """Measures the shift between successive frames by phase correlation of their thumbnails.

    What moves by itself in a frame hardly counts, as long as most of it does not. Turning and
    coming closer show as the shift that fits best.
    """

    def __init__(self) -> None:
        self._before: Thumbnail | None = None

    def reset(self) -> None:
        """Forget the frame before."""
        self._before = None

    def update(self, rgb: NDArray[np.uint8]) -> tuple[float, float]:
        """Take the next frame, `[H, W, 3]`; return how far its content moved, x and y in pixels.

        It is 0, 0 for the first frame, one of another size, or one without much in common.
        """
        thumbnail = thumbnail_of(rgb)
        before, self._before = self._before, thumbnail
        if before is None or before.shape != thumbnail.shape:
            return 0.0, 0.0
        x, y = shift_between(before, thumbnail)
        rows, columns = thumbnail.shape
        return x * rgb.shape[1] / columns, y * rgb.shape[0] / rows


def shift_between(before: Thumbnail, after: Thumbnail) -> tuple[float, float]:
    """Return how far the content moved, x and y in pixels of the thumbnails, of the same size.

    It is 0, 0 where they are too small or have too little in common to tell.
    """
    rows, columns = after.shape
    if min(rows, columns) < LEAST_SIDE:
        return 0.0, 0.0
    window = cv2.createHanningWindow((columns, rows), cv2.CV_32F)
    # Copies: in some sizes OpenCV applies the window to its inputs themselves.
    (x, y), response = cv2.phaseCorrelate(before.copy(), after.copy(), window)
    if not (response >= LEAST_RESPONSE and np.isfinite([x, y]).all()):
        return 0.0, 0.0
    return x, y


def thumbnail_of(rgb: NDArray[np.uint8], side: int = SIDE) -> Thumbnail:
    """Shrink a frame, uint8 `[H, W, 3]`, to what frames are compared by: `side` pixels at most."""
    height, width = rgb.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.float32)
