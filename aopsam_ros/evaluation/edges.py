"""Edges against people's: precision and recall of boundary pixels, ODS and OIS as of BSDS500.

A pixel is matched with one of the other side at most, at most 0.75 % of the image's diagonal away;
the matching is a largest one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.spatial import cKDTree

TOLERANCE = 0.0075  # of the diagonal
THRESHOLDS = np.linspace(0.02, 0.9, 23)


class EdgeFigures(NamedTuple):
    """F at the data set's best threshold (ODS) and at each image's own (OIS); the former's own."""

    ods: float
    ois: float
    threshold: float
    precision: float  # at it
    recall: float


def boundaries(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return the boundary pixels of a map of regions, one thin: where the next one differs."""
    edges = np.zeros(labels.shape, np.bool_)
    edges[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edges[:-1] |= labels[:-1] != labels[1:]
    return edges


def edge_counts(
    edges: NDArray[np.float32], wanted: NDArray[np.bool_], thresholds: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Count edge pixels found, wanted, and matched, at each threshold, int64 `[thresholds, 3]`.

    Args:
        edges: thin, `[H, W]` in 0-1.
        wanted: `[H, W]`.
        thresholds: of `edges`.
    """
    reach = TOLERANCE * float(np.hypot(*wanted.shape))
    rows, columns = np.nonzero(edges > 0)
    strength, there = edges[rows, columns], np.argwhere(wanted)
    found = np.stack((rows, columns), axis=1)
    near = cKDTree(there).query_ball_point(found, reach) if len(there) else [[]] * len(found)
    counts = []
    for threshold in thresholds:
        chosen = np.flatnonzero(strength >= threshold)
        counts.append((len(chosen), len(there), _matched([near[i] for i in chosen], len(there))))
    return np.array(counts, np.int64)


def _matched(near: Sequence[Sequence[int]], count: int) -> int:
    """Return the size of a largest matching of pixels with those near each, of so many."""
    lengths = [len(own) for own in near]
    if not sum(lengths):
        return 0
    bounds, columns = np.concatenate(([0], np.cumsum(lengths))), np.concatenate(near).astype(int)
    graph = csr_matrix((np.ones(len(columns)), columns, bounds), (len(near), count))
    return int((maximum_bipartite_matching(graph, perm_type="column") >= 0).sum())


def edge_figures(
    images: Sequence[NDArray[np.int64]], thresholds: NDArray[np.float64]
) -> EdgeFigures:
    """Put the counts of images together."""
    total = np.sum(images, axis=0)
    all_f = f_measure(total)
    best = int(all_f.argmax())
    own = [counts[int(f_measure(counts).argmax())] for counts in images]
    found, wanted, matched = total[best].tolist()
    return EdgeFigures(
        float(all_f[best]),
        float(f_measure(np.sum(own, axis=0)[None])[0]),
        float(thresholds[best]),
        matched / max(1, found),
        matched / max(1, wanted),
    )


def f_measure(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return F of pixels found, wanted and matched, `[n, 3]` to `[n]`; 0 where there are none."""
    return 2.0 * counts[:, 2] / np.maximum(counts[:, 0] + counts[:, 1], 1)
