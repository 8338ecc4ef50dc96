"""Overlapping masks become one, in either of two ways: the worse is dropped, or they are merged.

All at low resolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from aopsam_ros.masks.selection import LowResMasks, count_pixels
from aopsam_ros.masks.suppression import SUPPRESSION
from aopsam_ros.options import MaskOptions
from aopsam_ros.products import matmul


@dataclass(frozen=True)
class Combined:
    """The masks that are left, by descending score, and the prompts that had a part in each."""

    masks: LowResMasks
    prompts: tuple[NDArray[np.int64], ...]


def combine(found: LowResMasks, valid: tuple[int, int], options: MaskOptions) -> Combined:
    """Resolve overlaps as `mask.combine` says.

    Args:
        found: masks that passed the filters.
        valid: rows and columns of the low-resolution square that show the image.
        options: `combine` and `overlap_threshold`.
    """
    masks, threshold = found.binary(*valid), options.overlap_threshold
    if options.combine == "merge":
        return _merged(found, merge_groups(masks, threshold))
    kept = found.take(SUPPRESSION[options.combine](masks, found.predicted_iou, threshold))
    return Combined(kept, tuple(kept.prompt[:, None]))


def merge_groups(masks: NDArray[np.bool_], threshold: float) -> NDArray[np.int64]:
    """Group masks of which one lies in another by more than a share of itself.

    Two masks belong together when their intersection is above `threshold` times the smaller one
    (Efficient SAM2); groups are what such pairs connect.

    Args:
        masks: bool `[n, rows, columns]`.
        threshold: share in 0-1.

    Returns:
        each mask's group, int64 `[n]`, numbered from 0 on.
    """
    flat = masks.reshape(len(masks), masks.shape[1] * masks.shape[2]).astype(np.float32)
    both = matmul(flat, np.ascontiguousarray(flat.T))
    areas = count_pixels(masks)
    smaller = np.minimum(areas[:, None], areas[None, :])
    first, second = np.nonzero(both > threshold * smaller)
    pairs = coo_array((np.ones(len(first), np.bool_), (first, second)), shape=both.shape)
    _, groups = connected_components(pairs, directed=False)
    return np.asarray(groups, np.int64)


def _merged(found: LowResMasks, groups: NDArray[np.int64]) -> Combined:
    """Unite each group; score and prompt are those of its best mask."""
    best_first = np.argsort(-found.predicted_iou, kind="stable")
    _, first = np.unique(groups[best_first], return_index=True)
    leaders = best_first[np.sort(first)]
    members = [np.flatnonzero(groups == groups[leader]) for leader in leaders]
    masks = found.take(leaders)
    for row, group in enumerate(members):
        # Where any member's logit is positive, the union's is.
        found.logits[group].max(axis=0, out=masks.logits[row])
    return Combined(masks, tuple(found.prompt[group] for group in members))
