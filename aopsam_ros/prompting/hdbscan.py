"""HDBSCAN on a matrix of distances (Campello, Moulavi, Sander 2013), by excess of mass.

The package that has it, scikit-learn, takes 70 MB of memory and is too old on Ubuntu 22.04.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

# Densities are inverse distances; points that are nearer to each other are the same.
_SMALLEST_DISTANCE = 1e-9


def hdbscan(
    distance: NDArray[np.float64], min_samples: int, min_cluster_size: int
) -> NDArray[np.int64]:
    """Cluster points by density.

    Args:
        distance: symmetric, `[n, n]`, with zeros on its diagonal; overwritten.
        min_samples: a point with so many near it, itself included, lies in a dense place.
        min_cluster_size: smaller clusters are noise; at least 2.

    Returns:
        int64 `[n]`: the cluster of each point from 0 on, -1 for noise.
    """
    from scipy.cluster.hierarchy import linkage  # takes memory: only where features are clustered
    from scipy.spatial.distance import squareform

    count = len(distance)
    if count < max(min_samples, min_cluster_size):
        return np.full(count, -1, np.int64)
    core = np.partition(distance, min_samples - 1, axis=1)[:, min_samples - 1]
    np.maximum(distance, np.maximum.outer(core, core), out=distance)
    # Points are the nodes 0 to n - 1, merges the further ones, in the order of their distance.
    merges = linkage(squareform(distance, checks=False), "single")
    label = [-1] * (2 * count - 1)
    for number, cluster in enumerate(_most_stable(_condense(merges, min_cluster_size))):
        label[cluster.node] = number
    halves = merges[:, :2].astype(np.int64).tolist()
    for node in range(2 * count - 2, count - 1, -1):
        if label[node] >= 0:
            for half in halves[node - count]:
                label[half] = label[node]
    return np.array(label[:count], np.int64)


@dataclass
class _Cluster:
    """A group that loses points as the density rises, until it ends or falls into two clusters."""

    node: int
    birth: float  # density
    stability: float = 0.0
    children: list[_Cluster] = field(default_factory=list)


def _condense(merges: NDArray[np.float64], min_cluster_size: int) -> list[_Cluster]:
    """Return all clusters, each before its children; the first is all points.

    Rows of `merges` are two nodes, their distance, and how many points they have together.
    """
    count = len(merges) + 1
    size = np.append(np.ones(count), merges[:, 3]).tolist()
    clusters = [_Cluster(2 * count - 2, 0.0)]
    waiting = [(clusters[0].node, clusters[0])]
    while waiting:
        node, cluster = waiting.pop()
        first, second, distance, _ = merges[node - count].tolist()
        density = 1.0 / max(distance, _SMALLEST_DISTANCE)
        large = [half for half in (int(first), int(second)) if size[half] >= min_cluster_size]
        staying = size[large[0]] if len(large) == 1 else 0
        cluster.stability += (size[node] - staying) * (density - cluster.birth)
        if len(large) == 2:
            cluster.children = [_Cluster(half, density) for half in large]
            clusters += cluster.children
            waiting += [(child.node, child) for child in cluster.children]
        else:
            waiting += [(half, cluster) for half in large]
    return clusters


def _most_stable(clusters: list[_Cluster]) -> list[_Cluster]:
    """Choose clusters that share no point, and that are the most stable together."""
    chosen: dict[int, list[_Cluster]] = {}
    for cluster in reversed(clusters[1:]):
        parts = [part for child in cluster.children for part in chosen[child.node]]
        together = sum(part.stability for part in parts)
        chosen[cluster.node] = parts if together > cluster.stability else [cluster]
    return [part for child in clusters[0].children for part in chosen[child.node]]
