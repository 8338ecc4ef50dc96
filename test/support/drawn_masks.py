"""Masks of rectangles in an image of 30 x 40 pixels, and segmentations that consist of them."""

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


def instance_of(mask, number=1, **fields):
    """Put a mask down as if it had been found; scores are 0.9 unless others are given."""
    box, counts = encode_full(mask)
    scores = dict.fromkeys(("predicted_iou", "stability_score", "prompt_confidence", "score"), 0.9)
    values = {**scores, "prompt": (0.0, 0.0), "label": "", **fields}
    return InstanceMask(number, box, int(mask.sum()), counts=counts, **values)


def segmentation_of(masks, scores=None, prompts=(), decoded=0, timings=None):
    """Put masks together as if they had been found, with scores of 0.9 unless others are given."""
    scores = [0.9] * len(masks) if scores is None else scores
    instances = [
        instance_of(mask, number, predicted_iou=score, score=score)
        for number, (mask, score) in enumerate(zip(masks, scores, strict=True), 1)
    ]
    height, width = masks[0].shape if masks else SIZE
    return Segmentation(
        height, width, tuple(instances), prompts, decoded, timings or {}, None, "drawn", "none"
    )
