"""Prompts without training: clusters of what cells of the image attend to, one point for each.

Efficient SAM2's way. Where the bundle's encoder gives no attention (one of windows only has none
over the whole image), the cosine similarity of the embedding's features takes its place.
"""

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.errors import OptionError
from aopsam_ros.geometry import FrameGeometry
from aopsam_ros.options import ClusterOptions
from aopsam_ros.prompting.features import FeatureMap, single_thread_matmul
from aopsam_ros.prompting.hdbscan import hdbscan
from aopsam_ros.prompting.prompts import ALL_PROMPTS, FrameInput, PromptSet, PromptSource

# min_samples and min_cluster_size, by the names that Efficient SAM2 gave them.
PRESETS = {"low_latency": (2, 10), "high_quality": (2, 5), "sam3d": (5, 40), "sam1": (2, 3)}


class ClusterSource(PromptSource):
    """The medoids of clusters of features; masks that lie in one another are merged."""

    name = defaults_group = "clusters"
    needs_features = spread = True
    defaults = {**ALL_PROMPTS, "mask.combine": "merge"}  # noqa: RUF012
    own_options = ("clusters.", "mask.refine")

    def propose(self, frame: FrameInput) -> PromptSet:
        """See `PromptSource`."""
        if frame.features is None:
            raise OptionError("the prompt source 'clusters' needs the features")
        return PromptSet(*cluster_points(frame.features, frame.geometry, frame.options.clusters))


def hdbscan_params(options: ClusterOptions) -> tuple[int, int]:
    """Return min_samples and min_cluster_size: the preset's, where not set by themselves."""
    samples, size = PRESETS[options.preset]
    return options.min_samples or samples, max(2, options.min_cluster_size or size)


def cluster_points(
    features: FeatureMap, geometry: FrameGeometry, options: ClusterOptions
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Propose the medoid of each cluster of features.

    Returns:
        x and y in source pixels `[N, 2]`, and each cluster's similarity, best first: the mean
        cosine of its cells with the medoid, in 0-1, float32 `[N]`.
    """
    factor = -(-features.size // options.side)
    unit, columns = features.pooled(factor)
    cosines = single_thread_matmul(unit, np.ascontiguousarray(unit.T))
    cells, similarity = medoids(cosines, cluster(cosines, *hdbscan_params(options)))
    order = np.argsort(-similarity, kind="stable")
    y, x = np.divmod(cells[order], columns)
    # The centre of a pooled cell, in cells of the embedding.
    centres = np.stack((x, y), axis=1) * factor + (factor - 1) / 2
    return geometry.cells_to_source(centres, features.size), similarity[order]


def cluster(
    similarity: NDArray[np.float32], min_samples: int, min_cluster_size: int
) -> NDArray[np.int64]:
    """Cluster cells by density with the cosine distance; see `hdbscan`. Cosines are `[n, n]`."""
    # Rounding must not make a distance negative, nor the two directions of one differ.
    distance = np.maximum(1.0 - (similarity + similarity.T).astype(np.float64) / 2, 0.0)
    np.fill_diagonal(distance, 0.0)
    return hdbscan(distance, min_samples, min_cluster_size)


def medoids(
    similarity: NDArray[np.float32], labels: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Find the cell of each cluster most like the others, and its mean cosine with them, 0-1."""
    cells, means = [], []
    for label in np.unique(labels[labels >= 0]):  # below 0 is noise
        members = np.flatnonzero(labels == label)
        mean = similarity[np.ix_(members, members)].mean(axis=1)
        best = int(mean.argmax())
        cells.append(int(members[best]))
        means.append(float(mean[best]))
    return np.array(cells, np.int64), np.clip(np.array(means, np.float32), 0.0, 1.0)
