"""Masks of rectangles in an image of 30 x 40 pixels, and segmentations that consist of them."""

from __future__ import annotations

import numpy as np

from aopsam_ros.masks.rle import encode_full
from aopsam_ros.results import InstanceMask, Segmentation

SIZE = 30, 40


def rectangle(top, bottom, left, right, size=SIZE):
    """Draw a rectangle, bool `[H, W]`."""
    mask = np.zeros(size, bool)
    mask[top:bottom, left:right] = True
    return mask


def random_masks(rng, count):
    """Draw rectangles of 1 to 14 pixels a side."""
    corners = ((rng.integers(0, 20), rng.integers(0, 30)) for _ in range(count))
    return [rectangle(y, y + rng.integers(1, 15), x, x + rng.integers(1, 15)) for y, x in corners]


def segmentation_of(masks, scores=None, prompts=(), decoded=0, timings=None):
    """Put masks together as if they had been found, with scores of 0.9 unless others are given."""
    instances = []
    for index, mask in enumerate(masks):
        box, counts = encode_full(mask)
        score = 0.9 if scores is None else scores[index]
        area = int(mask.sum())
        instances.append(InstanceMask(index + 1, box, area, score, 0.9, (0, 0), 0.9, "", counts))
    height, width = masks[0].shape if masks else SIZE
    return Segmentation(
        height, width, tuple(instances), prompts, decoded, timings or {}, None, "drawn", "none"
    )
