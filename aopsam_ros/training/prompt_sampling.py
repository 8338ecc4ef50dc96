"""Training prompts: points in an instance, loose boxes, clicks where the mask so far is wrong."""

import cv2
import numpy as np
from numpy.typing import NDArray

FOREGROUND, BACKGROUND = 1.0, 0.0
PIXEL_STRIDE = 4  # of the low-resolution masks


def innermost_pixel(mask: NDArray[np.bool_]) -> tuple[int, int, float]:
    """Find the pixel farthest from the outside of a mask, `bool [H, W]`, that is not empty.

    The image's border counts as outside. Returned are x, y and the distance in pixels; of equals
    the first in row-major order.
    """
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    distance = _depth(mask[y : y + height, x : x + width], cv2.DIST_MASK_PRECISE)
    row, column = np.unravel_index(int(distance.argmax()), distance.shape)
    return int(x + column), int(y + row), float(distance[row, column])


def random_point(
    mask: NDArray[np.bool_], rng: np.random.Generator, innermost: float = 0.35
) -> tuple[int, int]:
    """Pick a pixel: the innermost with that probability, else the inner one of two random ones."""
    if rng.random() < innermost:
        return innermost_pixel(mask)[:2]
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    distance = _depth(mask[y : y + height, x : x + width])
    rows, columns = np.nonzero(distance)
    picks = rng.integers(len(rows), size=2)
    best = max(picks, key=lambda i: distance[rows[i], columns[i]])
    return int(x + columns[best]), int(y + rows[best])


def loose_box(
    mask: NDArray[np.bool_], rng: np.random.Generator, looseness: float
) -> NDArray[np.float32]:
    """Box a mask, its corners shifted by about `looseness` of its size: `[[x0, y0], [x1, y1]]`."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    corners = np.array([[x, y], [x + width, y + height]], np.float32)
    shift = np.clip(rng.normal(0, looseness, (2, 2)), -3 * looseness, 3 * looseness)
    limit = [mask.shape[1], mask.shape[0]]
    return np.clip(corners + shift * [width, height], 0, limit).astype(np.float32)


def corrective_click(
    mask: NDArray[np.bool_], target: NDArray[np.bool_], rng: np.random.Generator | None
) -> tuple[float, float, float]:
    """Find a place where a mask is wrong, as SAM was trained.

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


def _depth(region: NDArray[np.bool_], size: int = cv2.DIST_MASK_3) -> NDArray[np.float32]:
    """Return each pixel's distance to the outside, about or, by `DIST_MASK_PRECISE`, exactly."""
    padded = np.pad(region.astype(np.uint8), 1)
    return np.asarray(cv2.distanceTransform(padded, cv2.DIST_L2, size)[1:-1, 1:-1])


def _pixel(row: int, column: int, is_missing: bool) -> tuple[float, float, float]:
    centre = (PIXEL_STRIDE - 1) / 2
    label = FOREGROUND if is_missing else BACKGROUND
    return PIXEL_STRIDE * column + centre, PIXEL_STRIDE * row + centre, label
