"""Thresholds of a label set from its own examples, each compared with those of other images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.labels.label_set import LabelSet

LEAST_EXAMPLES = 20  # of which fewer say nothing about thresholds
_STEPS = np.arange(0.0, 1.0, 0.02)
_MARGINS = np.arange(0.0, 0.11, 0.01)


def fit_thresholds(
    labels: LabelSet,
    examples: NDArray[np.float32],
    label_of: NDArray[np.int64],
    image_of: NDArray[np.int64],
) -> LabelSet:
    """Return the set with the thresholds that leave most right labels beyond wrong ones.

    Args:
        labels: the set; its prototypes are not looked at.
        examples: unit features, float32 `[n, D]`.
        label_of: place of each example's label in `labels.names`, int64 `[n]`.
        image_of: number of the image of each, int64 `[n]`.
    """
    best, ahead, is_right = [], [], []
    for image in np.unique(image_of):
        held = image_of == image
        others = replace(labels, prototypes=examples[~held], label_of=label_of[~held])
        known = held & np.isin(label_of, others.label_of)
        if not known.any():
            continue
        table = others.similarity(examples[known])
        two = -np.sort(-table, axis=1)[:, :2]
        best.append(two[:, 0])
        ahead.append(two[:, 0] - (two[:, 1] if two.shape[1] > 1 else -1.0))
        is_right.append(table.argmax(axis=1) == label_of[known])
    if sum(map(len, best)) < LEAST_EXAMPLES:
        return labels
    similarity, margin, right = map(np.concatenate, (best, ahead, is_right))
    gain = np.where(right, 1, -1)
    gains = [
        (int(gain[(similarity >= least) & (margin >= least_margin)].sum()), least, least_margin)
        for least in _STEPS
        for least_margin in _MARGINS
    ]
    _, least, least_margin = max(gains, key=lambda each: each[0])
    return replace(labels, min_similarity=float(least), margin=float(least_margin))
