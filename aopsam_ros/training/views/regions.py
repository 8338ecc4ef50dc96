"""Regions of one colour where a photograph is unlabelled: floors, walls, sky and the like.

Most data sets outline objects and leave surfaces out. A promptable model that never saw a surface
as a target answers a click on one with the nearest object.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 160  # regions are found on a copy of about this size: coarse is enough, and fast
LEAST_SHARE = 0.02  # of the view; smaller patches are texture rather than surface
LEAST_EXTENT = 0.25  # of their bounding box; thinner ones are what other regions left over


def surface_layer(
    rgb: NDArray[np.uint8], labelled: NDArray[np.bool_], most: int, rng: np.random.Generator
) -> NDArray[np.uint16]:
    """Label some regions that no data set outlines, by Felzenszwalb's graph-based segmentation.

    Source: P. Felzenszwalb, D. Huttenlocher, IJCV 59 (2004), as scikit-image has it. No region has
    a labelled pixel, `bool [H, W]`. At random are the coarseness and which regions are kept.

    Returns:
        `uint16 [H, W]`, 0 outside the regions, 1 to `most` inside.
    """
    from skimage.segmentation import felzenszwalb

    height, width = rgb.shape[:2]
    factor = min(1.0, SIDE / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    scale = float(np.exp(rng.uniform(np.log(150), np.log(900))))
    found = felzenszwalb(small, scale=scale, sigma=1.0, min_size=60)
    found = cv2.resize(
        (found + 1).astype(np.uint16), (width, height), interpolation=cv2.INTER_NEAREST
    )
    found[labelled] = 0
    counts = np.bincount(found.ravel())
    counts[0] = 0
    large = [int(v) for v in np.flatnonzero(counts >= LEAST_SHARE * height * width)]
    kept = [v for v in rng.permutation(large).tolist() if _is_compact(found == v)][:most]
    lookup = np.zeros(len(counts), np.uint16)
    lookup[kept] = np.arange(1, len(kept) + 1)
    return lookup[found]


def _is_compact(mask: NDArray[np.bool_]) -> bool:
    _, _, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return bool(mask.sum() >= LEAST_EXTENT * width * height)
