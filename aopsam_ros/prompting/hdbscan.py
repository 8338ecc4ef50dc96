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
    labels = np.full(len(distance), -1, np.int64)
    if len(distance) < max(min_samples, min_cluster_size):
        return labels
    core = np.partition(distance, min_samples - 1, axis=1)[:, min_samples - 1]
    np.maximum(distance, np.maximum.outer(core, core), out=distance)
    dendrogram = _Dendrogram(len(distance))
    for first, second, length in _spanning_tree(distance):
        dendrogram.merge(first, second, length)
    for label, cluster in enumerate(_most_stable(_condense(dendrogram, min_cluster_size))):
        labels[dendrogram.points(cluster.node)] = label
    return labels


def _spanning_tree(distance: NDArray[np.float64]) -> list[tuple[int, int, float]]:
    """Return the minimum spanning tree's edges, shortest first: two points and their distance."""
    nearest, reach = np.zeros(len(distance), np.int64), distance[0].copy()
    is_outside = np.ones(len(distance), np.bool_)
    reach[0], is_outside[0] = np.inf, False
    edges = []
    for _ in range(len(distance) - 1):
        new = int(reach.argmin())
        edges.append((int(nearest[new]), new, float(reach[new])))
        reach[new], is_outside[new] = np.inf, False
        is_nearer = is_outside & (distance[new] < reach)
        reach[is_nearer], nearest[is_nearer] = distance[new, is_nearer], new
    return sorted(edges, key=lambda edge: edge[2])


class _Dendrogram:
    """Groups of points in the order they merge; a node below `count` is a point.

    Attributes:
        halves: the two nodes that each node from `count` on is made of.
        density: at which they merge.
        size: points of every node.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.halves: list[tuple[int, int]] = []
        self.density: list[float] = []
        self.size = [1] * count
        self._above = list(range(count))  # a node nearer to the largest group of each node

    def merge(self, first: int, second: int, distance: float) -> None:
        """Join the groups of two points."""
        halves = self._group(first), self._group(second)
        node = len(self.size)
        self.halves.append(halves)
        self.density.append(1.0 / max(distance, _SMALLEST_DISTANCE))
        self.size.append(self.size[halves[0]] + self.size[halves[1]])
        self._above.append(node)
        self._above[halves[0]] = self._above[halves[1]] = node

    def _group(self, node: int) -> int:
        while self._above[node] != node:
            self._above[node] = self._above[self._above[node]]
            node = self._above[node]
        return node

    def points(self, node: int) -> list[int]:
        """List the points of a node."""
        found, waiting = [], [node]
        while waiting:
            last = waiting.pop()
            if last < self.count:
                found.append(last)
            else:
                waiting += self.halves[last - self.count]
        return found


@dataclass
class _Cluster:
    """A group that loses points as the density rises, until it ends or falls into two clusters."""

    node: int
    birth: float  # density
    stability: float = 0.0
    children: list[_Cluster] = field(default_factory=list)


def _condense(dendrogram: _Dendrogram, min_cluster_size: int) -> list[_Cluster]:
    """Return all clusters, each before its children; the first is all points."""
    size = dendrogram.size
    clusters = [_Cluster(len(size) - 1, 0.0)]
    waiting = [(clusters[0].node, clusters[0])]
    while waiting:
        node, cluster = waiting.pop()
        merge = node - dendrogram.count
        density = dendrogram.density[merge]
        large = [half for half in dendrogram.halves[merge] if size[half] >= min_cluster_size]
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
