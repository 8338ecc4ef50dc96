"""A label set from many examples: their features, thinned where there are many, and thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2

from aopsam_ros.labels.label_set import MOST_PROTOTYPES, LabelSet, checked_name
from aopsam_ros.labels.semantic_encoder import SemanticEncoder
from aopsam_ros.prompting.features import unit_length
from aopsam_ros.segmentation.segmenter import FrameEmbedding

LEAST_EXAMPLES = 20  # of which fewer say nothing about thresholds
_STEPS = np.arange(0.0, 1.0, 0.02)
_MARGINS = np.arange(0.0, 0.11, 0.01)


class Examples:
    """Collects named masks of images."""

    def __init__(self, encoder: SemanticEncoder) -> None:
        self._encoder = encoder
        self._names: list[str] = []
        self._features: list[NDArray[np.float32]] = []
        self._image_of: list[int] = []
        self._images = 0

    def __len__(self) -> int:
        return len(self._names)

    def add(
        self,
        rgb: NDArray[np.uint8],
        frame: FrameEmbedding,
        named: Sequence[tuple[str, NDArray[np.bool_]]],
    ) -> None:
        """Take an image's named masks, bool `[H, W]` each.

        Raises:
            InputError: if a name is not 1 to 64 printable characters.
            InferenceError: if a graph fails.
        """
        self._features += list(self._encoder.features(rgb, frame, [mask for _, mask in named]))
        self._names += [checked_name(name) for name, _ in named]
        self._image_of += [self._images] * len(named)
        self._images += 1

    def label_set(self) -> LabelSet:
        """Return the set, labels in alphabetical order, with thresholds fitted to the examples."""
        labels = LabelSet.empty(self._encoder.identity)
        features, names = np.stack(self._features), np.array(self._names)
        known, label_of = np.unique(names, return_inverse=True)
        for name in known.tolist():
            labels = labels.added(name, thinned(features[names == name]))
        return fit_thresholds(labels, features, label_of, np.array(self._image_of))


def thinned(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return unit features `[n, D]`, or the means of as many clusters as a label may have."""
    if len(features) <= MOST_PROTOTYPES:
        return features
    means, member_of = kmeans2(features.astype(np.float64), MOST_PROTOTYPES, minit="++", seed=0)
    return unit_length(means[np.unique(member_of)].astype(np.float32))


def fit_thresholds(
    labels: LabelSet,
    examples: NDArray[np.float32],
    label_of: NDArray[np.int64],
    image_of: NDArray[np.int64],
) -> LabelSet:
    """Return the set with the thresholds that leave most right labels beyond wrong ones.

    Each example is compared with those of other images.

    Args:
        labels: the set; its prototypes are not looked at.
        examples: unit features, float32 `[n, D]`.
        label_of: place of each example's label in `labels.names`, int64 `[n]`.
        image_of: number of the image of each, int64 `[n]`.
    """
    similarity, lead, gain = np.zeros((3, len(examples)))  # gain: 1 if right, -1 if wrong, or 0
    for image in np.unique(image_of):
        held = image_of == image
        others = replace(labels, prototypes=examples[~held], label_of=label_of[~held])
        known = held & np.isin(label_of, others.label_of)
        if known.any():
            places, similarity[known], lead[known] = others.ranked(examples[known])
            gain[known] = np.where(places == label_of[known], 1, -1)
    if np.count_nonzero(gain) < LEAST_EXAMPLES:
        return labels
    gains = [
        (gain[(similarity >= least) & (lead >= margin)].sum(), least, margin)
        for least in _STEPS
        for margin in _MARGINS
    ]
    _, least, margin = max(gains, key=lambda each: each[0])
    return replace(labels, min_similarity=float(least), margin=float(margin))
