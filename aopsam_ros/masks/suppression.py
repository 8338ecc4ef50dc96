"""Greedy non-maximum suppression of masks, at low resolution.

Masks are visited by descending score (the first of equals first); every later one whose IoU with a
kept mask is *above* the threshold is dropped.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.masks.selection import count_pixels, mask_corners

# Bits set in each 16-bit word: NumPy has no population count before version 2.
_BITS = np.array([bin(word).count("1") for word in range(1 << 16)], np.uint8)


def suppress_masks(
    masks: NDArray[np.bool_], scores: NDArray[np.float32], threshold: float
) -> NDArray[np.int64]:
    """Suppress masks, bool `[n, rows, columns]`, by the IoU of the masks themselves.

    Returned are the indices of the kept masks, int64, by descending score.
    """
    areas, words = count_pixels(masks), pack(masks)

    def overlapping(best: int, others: NDArray[np.int64]) -> NDArray[np.bool_]:
        # The smaller area over the larger bounds the IoU: most pairs need no look at their pixels.
        small = np.minimum(areas[best], areas[others])
        possible = small > threshold * np.maximum(areas[best], areas[others])
        result = np.zeros(len(others), np.bool_)
        near = others[possible]
        both = count_shared(words, best, near)
        result[possible] = both > threshold * (areas[best] + areas[near] - both)
        return result

    return _greedy(scores, overlapping)


def suppress_boxes(
    masks: NDArray[np.bool_], scores: NDArray[np.float32], threshold: float
) -> NDArray[np.int64]:
    """Suppress by the IoU of the masks' boxes, as SAM's automatic generator does.

    Arguments and result as in `suppress_masks`; a mask without pixels overlaps nothing.
    """
    return suppress_corners(mask_corners(masks), scores, threshold)


def suppress_corners(
    corners: NDArray[np.int64], scores: NDArray[np.float32], threshold: float
) -> NDArray[np.int64]:
    """Suppress by the IoU of boxes given as left, top, right, bottom (exclusive), `[n, 4]`.

    Scores, threshold and result as in `suppress_masks`; an empty box overlaps nothing.
    """
    left, top, right, bottom = corners.T
    areas = (right - left) * (bottom - top)

    def overlapping(best: int, others: NDArray[np.int64]) -> NDArray[np.bool_]:
        w = np.minimum(right[best], right[others]) - np.maximum(left[best], left[others])
        h = np.minimum(bottom[best], bottom[others]) - np.maximum(top[best], top[others])
        both = np.maximum(w, 0) * np.maximum(h, 0)
        result: NDArray[np.bool_] = both > threshold * (areas[best] + areas[others] - both)
        return result

    return _greedy(scores, overlapping)


SUPPRESSION: dict[
    str, Callable[[NDArray[np.bool_], NDArray[np.float32], float], NDArray[np.int64]]
] = {"nms": suppress_masks, "box_nms": suppress_boxes}


def _greedy(
    scores: NDArray[np.float32], overlapping: Callable[[int, NDArray[np.int64]], NDArray[np.bool_]]
) -> NDArray[np.int64]:
    remaining = np.argsort(-scores, kind="stable").astype(np.int64)
    kept: list[int] = []
    while remaining.size:
        best, remaining = int(remaining[0]), remaining[1:]
        kept.append(best)
        remaining = remaining[~overlapping(best, remaining)]
    return np.array(kept, np.int64)


def pack(masks: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """Pack masks `[n, rows, columns]` into 16-bit words, uint16 `[n, ceil(pixels / 16)]`."""
    packed = np.packbits(masks.reshape(len(masks), masks.shape[1] * masks.shape[2]), axis=1)
    if packed.shape[1] % 2:
        packed = np.pad(packed, ((0, 0), (0, 1)))
    return packed.view(np.uint16)


def count_shared(
    words: NDArray[np.uint16], one: int, others: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Count the pixels that the packed mask `words[one]` shares with those at `others`, `[n]`."""
    filled = np.flatnonzero(words[one])  # the time goes by this mask's size
    both = words[others[:, None], filled] & words[one, filled]
    return np.asarray(_BITS[both].sum(axis=1, dtype=np.int64))
