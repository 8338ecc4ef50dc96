"""Masks of one label that belong to one thing, united (SAM-CP, prompts of type II)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.special import expit

from aopsam_ros.labels.label_set import LabelOptions
from aopsam_ros.masks.rle import decode, encode
from aopsam_ros.masks.selection import count_pixels
from aopsam_ros.masks.suppression import count_shared, pack
from aopsam_ros.results import InstanceMask, Segmentation

# Log odds that two masks of one label show one thing, as `python -m aopsam_benchmarks.affinity`
# fits them (docs/evaluation.md): of each column of `pair_features`, and without them.
WEIGHTS, BIAS = (5.64, 1.70, -4.29), 2.05
SIDE = 256  # cells along the longer side of the image, in which masks are compared
WHOLE = 0.9  # share of the union from which its largest mask is the thing itself


def compose(
    segmentation: Segmentation,
    depths: NDArray[np.float32] | None = None,
    depth_tolerance: float = 0.0,
    least_affinity: float = LabelOptions.merge_affinity,
) -> Segmentation:
    """Unite the masks of each label that show parts of one thing.

    The whole carries the label; its parts lose theirs and have it as `parent`. Masks are sorted by
    area and numbered anew.

    Args:
        segmentation: with labels.
        depths: of its masks, metres, float32 `[n]`, NaN where unknown; None: of none.
        depth_tolerance: share of the nearer one's depth by which two masks of one thing may differ.
        least_affinity: from which two masks are united, above 0; see `affinity`.
    """
    related = affinities(segmentation) >= least_affinity
    if depths is not None:
        related &= same_depth(depths, depth_tolerance)
    return unite(segmentation, related)


def unite(segmentation: Segmentation, related: NDArray[np.bool_]) -> Segmentation:
    """Unite masks of one label that are `related`, bool `[n, n]`; see `compose`."""
    masks = list(segmentation.masks)
    groups = _groups(segmentation, related)
    if not groups:
        return segmentation
    parents = {mask.id: mask.parent for mask in masks}
    whole_of: dict[int, int] = {}  # id of a part to that of the thing
    next_id = max(mask.id for mask in masks) + 1
    for group in groups:
        members = sorted((masks[place] for place in group), key=lambda mask: -mask.area)
        whole = replace(_united(members, next_id), parent=_common_parent(members, parents))
        if members[0].area >= WHOLE * whole.area:
            whole = members[0]
        else:
            masks.append(whole)
            next_id += 1
        whole_of |= {member.id: whole.id for member in members if member.id != whole.id}
    return replace(segmentation, masks=_renumbered(masks, whole_of))


def _groups(segmentation: Segmentation, related: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """Return the places of the masks of each thing that has several, of one label."""
    names = np.array([mask.label for mask in segmentation.masks])
    labelled = np.flatnonzero(names != "")
    if len(labelled) < 2:
        return []
    same = names[labelled][:, None] == names[labelled][None]
    linked = coo_array(related[np.ix_(labelled, labelled)] & same)
    _, group_of = connected_components(linked, directed=False)
    members = [labelled[group_of == group] for group in np.unique(group_of)]
    return [group for group in members if len(group) > 1]


def affinities(segmentation: Segmentation) -> NDArray[np.float32]:
    """Return the `affinity` of the masks that have labels, `[n, n]`; 0 of all others."""
    labelled = [place for place, mask in enumerate(segmentation.masks) if mask.label]
    found = np.zeros((len(segmentation.masks),) * 2, np.float32)
    if len(labelled) > 1:
        masks = [segmentation.masks[place] for place in labelled]
        scores = np.array([mask.score for mask in masks], np.float32)
        found[np.ix_(labelled, labelled)] = affinity(coarse(masks, segmentation), scores)
    return found


def affinity(cells: NDArray[np.uint8], scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how probably masks show parts of one thing if they have one label, `[n, n]`.

    Arguments as of `pair_features`. Masks that do not meet show two things.
    """
    features = pair_features(cells, scores)
    odds = features @ np.array(WEIGHTS, np.float32) + np.float32(BIAS)
    return np.where(meeting(features), expit(odds), 0.0).astype(np.float32)


def pair_features(cells: NDArray[np.uint8], scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what tells whether two masks show one thing, float32 `[n, n, 3]`.

    It is their IoU, the share of the smaller one's outline along which they touch, and the lower of
    their scores: two sure masks are two things.

    Args:
        cells: the masks at low resolution, 0 or 1, uint8 `[n, rows, columns]`.
        scores: of the masks, float32 `[n]`.
    """
    around = np.stack([cv2.dilate(mask, np.ones((3, 3), np.uint8)) - mask for mask in cells])
    masks, outlines = cells.view(np.bool_), around.view(np.bool_)
    area, length = count_pixels(masks), count_pixels(outlines)
    words, every = np.concatenate((pack(masks), pack(outlines))), np.arange(len(masks))
    shared = np.stack([count_shared(words, one, every) for one in range(len(words))])
    both, beside = shared[: len(masks)], shared[len(masks) :]
    iou = both / np.maximum(area[:, None] + area[None] - both, 1)
    touch = beside / np.maximum(length, 1)[:, None]
    touch = np.where(area[:, None] <= area[None], touch, touch.T)
    least = np.minimum(scores[:, None], scores[None])
    return np.stack((iou, touch, least), axis=-1).astype(np.float32)


def meeting(features: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell which pairs share cells or touch, bool `[n, n]`, by their `pair_features`."""
    return np.asarray(features[..., 0] + features[..., 1] > 0)


def same_depth(depths: NDArray[np.float32], tolerance: float) -> NDArray[np.bool_]:
    """Tell which depths `[n]` differ by no more than a share of the nearer one, or are unknown."""
    differences = np.abs(depths[:, None] - depths[None])
    within = differences <= tolerance * np.minimum(depths[:, None], depths[None])
    return np.asarray(within | np.isnan(differences))


def coarse(masks: list[InstanceMask], segmentation: Segmentation) -> NDArray[np.uint8]:
    """Return masks with `SIDE` cells along the longer side, uint8 `[n, rows, columns]`."""
    scale = min(1.0, SIDE / max(segmentation.height, segmentation.width))
    rows, columns = (math.ceil(s * scale) for s in (segmentation.height, segmentation.width))
    cells = np.zeros((len(masks), rows, columns), np.uint8)
    for own, mask in zip(cells, masks, strict=True):
        left, top, width, height = mask.bbox
        y, x = int(top * scale), int(left * scale)
        box = own[y : math.ceil((top + height) * scale), x : math.ceil((left + width) * scale)]
        pixels = decode(mask).astype(np.uint8)
        resized = cv2.resize(255 * pixels, box.shape[::-1], interpolation=cv2.INTER_AREA)
        box[:] = resized > 0
    return cells


def _united(members: list[InstanceMask], number: int) -> InstanceMask:
    """Return the union of masks, the largest first, with the scores and prompt of the best."""
    corners = np.array([member.corners for member in members])
    left, top = corners[:, :2].min(axis=0).tolist()
    right, bottom = corners[:, 2:].max(axis=0).tolist()
    union = np.zeros((bottom - top, right - left), np.bool_)
    for member in members:
        x, y, w, h = member.bbox
        union[y - top : y - top + h, x - left : x - left + w] |= decode(member)
    best = max(members, key=lambda member: member.score)
    prompts = [place for member in members for place in (member.prompt, *member.merged_prompts)]
    return replace(
        best,
        id=number,
        bbox=(left, top, right - left, bottom - top),
        area=int(np.count_nonzero(union)),
        counts=encode(union),
        label_score=max(member.label_score for member in members),
        merged_prompts=tuple(dict.fromkeys(prompts)),
        parent=0,
        level=0,
    )


def _common_parent(members: list[InstanceMask], parents: Mapping[int, int]) -> int:
    """Return the id of the innermost mask that holds all of these, and is none of them; 0: none.

    `parents` has that of each mask, by id.
    """
    chains = [list(_ancestors(member.id, parents)) for member in members]
    shared = set(chains[0]).intersection(*chains) - {member.id for member in members}
    return next((number for number in chains[0] if number in shared), 0)


def _ancestors(number: int, parents: Mapping[int, int]) -> Iterator[int]:
    while number := parents.get(number, 0):
        yield number


def _renumbered(masks: list[InstanceMask], whole_of: dict[int, int]) -> tuple[InstanceMask, ...]:
    """Link parts to their things, sort by area, number from 1, and count levels anew.

    A parent is larger. One found at low resolution may be smaller by some pixels, and then is none:
    as a part of its own part, it would close a circle.
    """
    number, level = {0: 0}, {0: -1}  # of the masks before, by id
    linked = []
    for place, mask in enumerate(sorted(masks, key=lambda mask: -mask.area), start=1):
        parent = whole_of.get(mask.id, mask.parent)
        above = parent if parent in number else 0
        number[mask.id], level[mask.id] = place, level[above] + 1
        linked.append(
            replace(
                mask,
                id=place,
                parent=number[above],
                level=level[mask.id],
                label="" if mask.id in whole_of else mask.label,
                label_score=0.0 if mask.id in whole_of else mask.label_score,
            )
        )
    return tuple(linked)
