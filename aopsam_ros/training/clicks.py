"""Corrective clicks: a further point where the mask so far is wrong, as SAM was trained."""

import cv2
import numpy as np
from numpy.typing import NDArray

FOREGROUND, BACKGROUND = 1.0, 0.0
PIXEL_STRIDE = 4  # of the low-resolution masks


def corrective_click(
    mask: NDArray[np.bool_], target: NDArray[np.bool_], rng: np.random.Generator | None
) -> tuple[float, float, float]:
    """Find a place where a mask is wrong.

    Args:
        mask: low-resolution mask so far, `[h, w]`.
        target: what it should be.
        rng: picks any wrong pixel half of the time; None: always the innermost pixel of all that is
            wrong, as evaluations click.

    Returns:
        x and y in pixels of the image, and the label: 1 where something is missing, 0 where there
        is too much. Without an error, the target's innermost pixel.
    """
    missing, surplus = target & ~mask, mask & ~target
    if rng is not None and rng.random() < 0.5:
        rows, columns = np.nonzero(missing | surplus)
        if len(rows):
            pick = rng.integers(len(rows))
            row, column = int(rows[pick]), int(columns[pick])
            return _pixel(row, column, bool(missing[row, column]))
    depths = [_depth(missing), _depth(surplus)]
    worst = int(depths[1].max() > depths[0].max())
    if depths[worst].max() == 0:
        worst, depths = 0, [_depth(target)]
    deepest = np.unravel_index(int(depths[worst].argmax()), target.shape)
    return _pixel(int(deepest[0]), int(deepest[1]), worst == 0)


def _depth(region: NDArray[np.bool_]) -> NDArray[np.float32]:
    padded = np.pad(region.astype(np.uint8), 1)
    return np.asarray(cv2.distanceTransform(padded, cv2.DIST_L2, 3)[1:-1, 1:-1])


def _pixel(row: int, column: int, is_missing: bool) -> tuple[float, float, float]:
    centre = (PIXEL_STRIDE - 1) / 2
    label = FOREGROUND if is_missing else BACKGROUND
    return PIXEL_STRIDE * column + centre, PIXEL_STRIDE * row + centre, label
