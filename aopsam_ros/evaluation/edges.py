"""Edges against people's: precision and recall of boundary pixels, ODS and OIS as of BSDS500.

A pixel is matched with one of the other side at most, at most 0.75 % of the image's diagonal away;
the matching is a largest one. Of several annotators each is matched by itself: a pixel is right
where it matches any of them, and the recall is that of all their pixels.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.spatial import cKDTree

TOLERANCE = 0.0075  # of the diagonal
THRESHOLDS = np.linspace(0.02, 0.9, 23)


def boundaries(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return the boundary pixels of a map of regions, one thin: where the next one differs."""
    edges = np.zeros(labels.shape, np.bool_)
    edges[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edges[:-1] |= labels[:-1] != labels[1:]
    return edges


def edge_counts(edges: NDArray[np.float32], wanted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count pixels of thin edges, `[H, W]` in 0-1, at each of `THRESHOLDS`, int64 `[n, 4]`.

    `wanted` are each annotator's, bool `[A, H, W]`.

    Returns:
        pixels found, of these matched with anybody's; pixels wanted by all annotators, of these
        matched.
    """
    reach = TOLERANCE * float(np.hypot(*edges.shape))
    rows, columns = np.nonzero(edges > 0)
    strength, found = edges[rows, columns], np.stack((rows, columns), axis=1)
    by_annotator = [np.argwhere(own) for own in wanted]
    near = [
        cKDTree(there).query_ball_point(found, reach) if len(there) else [[]] * len(found)
        for there in by_annotator
    ]
    counts = []
    for threshold in THRESHOLDS:
        chosen = np.flatnonzero(strength >= threshold)
        matched = np.array(
            [
                _matched([own[i] for i in chosen], len(there))
                for own, there in zip(near, by_annotator, strict=True)
            ]
        )
        right, recalled = np.count_nonzero(matched.any(axis=0)), np.count_nonzero(matched)
        counts.append((len(chosen), right, sum(map(len, by_annotator)), recalled))
    return np.array(counts, np.int64)


def _matched(near: Sequence[Sequence[int]], count: int) -> NDArray[np.bool_]:
    """Return which pixels a largest matching with those near each, of so many, holds."""
    lengths = [len(own) for own in near]
    if not sum(lengths):
        return np.zeros(len(near), np.bool_)
    bounds, columns = np.concatenate(([0], np.cumsum(lengths))), np.concatenate(near).astype(int)
    graph = csr_matrix((np.ones(len(columns)), columns, bounds), (len(near), count))
    return np.asarray(maximum_bipartite_matching(graph, perm_type="column") >= 0)


def edge_figures(images: Sequence[NDArray[np.int64]]) -> dict[str, float]:
    """Put the counts of images together.

    Returns:
        ods: F at the data set's best threshold.
        ois: F at each image's own.
        threshold, precision, recall: the data set's best, and those at it.
    """
    total = np.sum(images, axis=0)
    all_f = f_measure(total)
    best = int(all_f.argmax())
    own = [counts[int(f_measure(counts).argmax())] for counts in images]
    found, right, wanted, recalled = total[best].tolist()
    return {
        "ods": float(all_f[best]),
        "ois": float(f_measure(np.sum(own, axis=0)[None])[0]),
        "threshold": float(THRESHOLDS[best]),
        "precision": right / max(1, found),
        "recall": recalled / max(1, wanted),
    }


def f_measure(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return F of the counts of `edge_counts`, `[n, 4]` to `[n]`; 0 where nothing matches."""
    precision, recall = (counts[:, i + 1] / np.maximum(counts[:, i], 1) for i in (0, 2))
    return 2 * precision * recall / np.maximum(precision + recall, 1e-12)
