"""Which masks catch the eye: sure, large enough, near the centre, unlike what is around them."""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.masks.overlap import SampleGrid
from aopsam_ros.results import InstanceMask

SIDE = 128  # pixels of the longer side that colours are compared at
TYPICAL_SHARE = 0.15  # of the image that a salient thing takes
CONTRAST = 40.0  # distance of mean colours, in CIE Lab, of things that are quite unlike
MOST_EDGE = 0.5  # share of the image's border in a mask that makes it a background


def most_salient(
    masks: Sequence[InstanceMask], rgb: NDArray[np.uint8], count: int
) -> tuple[InstanceMask, ...]:
    """Return the `count` most salient masks of an image, uint8 `[H, W, 3]`, best first.

    Of masks that lie in one another at most one is among them: they have no `parent` there.
    """
    ranks = saliency(masks, rgb)
    chosen: list[InstanceMask] = []
    parents = {mask.id: mask.parent for mask in masks}
    for index in np.argsort(-ranks, kind="stable").tolist():
        mask = masks[index]
        if not any(_related(mask.id, other.id, parents) for other in chosen):
            chosen.append(replace(mask, parent=0, level=0))
        if len(chosen) == count:
            break
    return tuple(chosen)


def saliency(masks: Sequence[InstanceMask], rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return how salient each mask of an image is, `[n]` in 0-1.

    It is the geometric mean of its score, size, centrality and contrast.
    """
    height, width = rgb.shape[:2]
    grid = SampleGrid.over(height, width, SIDE)
    shape = len(grid.y), len(grid.x)
    small = cv2.resize(rgb, shape[::-1], interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB)
    border = np.ones(shape, np.bool_)
    border[1:-1, 1:-1] = False
    ranks = []
    for mask in masks:
        inside = grid.sample(mask).reshape(shape)
        share = float(inside.mean())
        # Half as large counts as much less as twice as large.
        typical = float(np.exp(-0.5 * (np.log(max(share, 1e-4) / TYPICAL_SHARE) / 1.5) ** 2))
        edge = float(inside[border].mean()) / MOST_EDGE
        parts = [mask.score, typical, _centrality(inside) * max(0.0, 1 - edge)]
        parts.append(_contrast(inside, lab))
        ranks.append(float(np.prod(np.clip(parts, 0.0, 1.0))) ** (1 / len(parts)))
    return np.array(ranks, np.float64)


def _related(first: int, second: int, parents: dict[int, int]) -> bool:
    """Tell whether one of two masks lies in the other."""
    for inner, outer in ((first, second), (second, first)):
        seen = set()
        while inner and inner not in seen:
            if inner == outer:
                return True
            seen.add(inner)
            inner = parents.get(inner, 0)
    return False


def _centrality(inside: NDArray[np.bool_]) -> float:
    """Return how near a mask's centroid is to the image's centre, 0-1."""
    rows, columns = np.nonzero(inside)
    centre = (np.array(inside.shape) - 1) / 2
    offset = (np.array([rows.mean(), columns.mean()]) - centre) / np.maximum(centre, 1)
    return float(np.exp(-float(offset @ offset)))


def _contrast(inside: NDArray[np.bool_], lab: NDArray[np.float32]) -> float:
    """Return how unlike a mask's mean colour is to that of the ring around it, 0-1."""
    reach = max(3, round(0.5 * float(np.sqrt(inside.sum())))) // 2 * 2 + 1
    around = cv2.dilate(inside.astype(np.uint8), np.ones((reach, reach), np.uint8)) > 0
    ring = around & ~inside
    if not ring.any():
        return 0.0
    distance = np.linalg.norm(lab[inside].mean(0) - lab[ring].mean(0))
    return float(min(1.0, float(distance) / CONTRAST))
