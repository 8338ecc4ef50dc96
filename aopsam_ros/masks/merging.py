"""Masks of which one lies in another are merged into one, at low resolution (Efficient SAM2)."""

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.masks.selection import LowResMasks, count_pixels
from aopsam_ros.masks.suppression import count_shared, pack


def merge(
    found: LowResMasks, masks: NDArray[np.bool_], threshold: float
) -> tuple[LowResMasks, list[NDArray[np.int64]]]:
    """Unite each of the `merge_groups`; scores and prompt are those of its best mask.

    `masks` are those found, thresholded, bool `[n, rows, columns]`. Weak ones change no strong one:
    where they belong together, the weak one is left out. Returned are the merged masks, by
    descending score, and the prompts that each was made from.
    """
    if not found.strong.all():
        related = _related(masks, threshold)
        apart = found.strong | ~related[:, found.strong].any(axis=1)
        found, masks = found.where(apart), masks[apart]
    groups = merge_groups(masks, threshold)
    best_first = np.argsort(-found.score, kind="stable")
    _, first = np.unique(groups[best_first], return_index=True)
    leaders = best_first[np.sort(first)]
    members = [np.flatnonzero(groups == groups[leader]) for leader in leaders]
    merged = found.take(leaders)
    for row, group in enumerate(members):
        # Where any member's logit is positive, the union's is.
        found.logits[group].max(axis=0, out=merged.logits[row])
    return merged, [found.prompt[group] for group in members]


def merge_groups(masks: NDArray[np.bool_], threshold: float) -> NDArray[np.int64]:
    """Return the group of each mask `[n, rows, columns]`, int64 `[n]`, numbered from 0 on.

    Two masks belong together when their intersection is above `threshold` times the smaller one;
    groups are what such pairs connect.
    """
    # Take 33 MB: only where masks are merged.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    _, groups = connected_components(coo_array(_related(masks, threshold)), directed=False)
    return np.asarray(groups, np.int64)


def _related(masks: NDArray[np.bool_], threshold: float) -> NDArray[np.bool_]:
    """Return which pairs of masks `[n, rows, columns]` belong together, bool `[n, n]`."""
    words, areas, every = pack(masks), count_pixels(masks), np.arange(len(masks))
    both = np.zeros((len(masks), len(masks)), np.int64)
    for row in range(len(masks)):
        both[row] = count_shared(words, row, every)
    return np.asarray(both > threshold * np.minimum(areas[:, None], areas[None, :]), np.bool_)
