"""The Prompt Elimination Map (PEM): what looks like what is segmented already.

Each mask's mean feature is compared with every pixel of the feature map. A prompt at a high value
would repeat a mask that is there (AoP-SAM, adaptive filtering).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.prompting.features import FeatureMap, single_thread_matmul


@dataclass(frozen=True)
class EliminationMap:
    """A map for each of n masks; the paper's PEM is their mean."""

    features: FeatureMap
    similarity: NDArray[np.float32]  # cosine with each mask's mean feature, `[n, pixels]`
    points: NDArray[np.float64]  # the masks' prompts, source pixels `[n, 2]`
    predicted_iou: NDArray[np.float32]  # of the masks, `[n]`

    def mean_exceeded(self, remaining: NDArray[np.float64], factor: float) -> NDArray[np.bool_]:
        """Where the mean map C(q) > factor * mean(IoU_i * C(p_i)), for each prompt q, `[q]`.

        The prompts are in source pixels `[q, 2]`.
        """
        mean = self.similarity.mean(axis=0)
        at_prompts = self.features.lookup(mean, self.points)
        threshold = max(0.0, float(np.mean(self.predicted_iou * at_prompts)))
        return self.features.lookup(mean, remaining) > factor * threshold

    def each_exceeded(self, remaining: NDArray[np.float64], factor: float) -> NDArray[np.bool_]:
        """Where a mask's own map C_i(q) > factor * IoU_i * C_i(p_i), `[n, q]`.

        A mean over many masks dilutes each one's signal; their own maps do not.
        """
        own = self.features.lookup(self.similarity, self.points).diagonal()
        thresholds = factor * np.maximum(0.0, self.predicted_iou * own)
        at_remaining = self.features.lookup(self.similarity, remaining)
        return np.asarray(at_remaining > thresholds[:, None])


def elimination_map(
    features: FeatureMap,
    masks: NDArray[np.bool_],
    low_size: int,
    points: NDArray[np.float64],
    predicted_iou: NDArray[np.float32],
) -> EliminationMap:
    """Compare n masks with the feature map.

    Args:
        features: of the image.
        masks: bool `[n, rows, columns]`, the part that shows the image, of a square of `low_size`.
        low_size: side of the masks' square.
        points: the masks' prompts, source pixels `[n, 2]`.
        predicted_iou: of the masks, float32 `[n]`.
    """
    mean_features = features.pool(masks, points, low_size)
    similarity = single_thread_matmul(mean_features, features.unit.T)
    return EliminationMap(features, similarity, points, predicted_iou)
