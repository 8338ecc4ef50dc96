"""Masks of one label that belong to one thing, united (SAM-CP, prompts of type II)."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.special import expit

from aopsam_ros.labels.label_set import LabelOptions
from aopsam_ros.masks.rle import decode, encode
from aopsam_ros.results import InstanceMask, Segmentation

# Log odds that two masks of one label show one thing, fitted to pairs of masks of training
# photographs (docs/evaluation.md): of their IoU, of the share of the smaller outline along which
# they touch, and of the lower of their scores: two sure masks are two things.
IOU_WEIGHT, TOUCH_WEIGHT, SCORE_WEIGHT, BIAS = 5.64, 1.70, -4.29, 2.05
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
    masks = list(segmentation.masks)
    unknown = np.full(len(masks), np.nan, np.float32)
    known = unknown if depths is None else depths
    groups = _groups(segmentation, same_depth(known, depth_tolerance), least_affinity)
    if not groups:
        return segmentation
    whole_of: dict[int, int] = {}  # id of a part to that of the thing
    next_id = max(mask.id for mask in masks) + 1
    for group in groups:
        members = sorted((masks[place] for place in group), key=lambda mask: -mask.area)
        whole = _united(members, next_id)
        if members[0].area >= WHOLE * whole.area:
            whole = members[0]
        else:
            masks.append(whole)
            next_id += 1
        whole_of |= {member.id: whole.id for member in members if member.id != whole.id}
    return replace(segmentation, masks=_renumbered(masks, whole_of))


def _groups(
    segmentation: Segmentation, near: NDArray[np.bool_], least: float
) -> list[NDArray[np.int64]]:
    """Return the places of the masks of each thing that has several; `near` says which may be."""
    names = np.array([mask.label for mask in segmentation.masks])
    labelled = np.flatnonzero(names != "")
    if len(labelled) < 2:
        return []
    masks = [segmentation.masks[place] for place in labelled]
    scores = np.array([mask.score for mask in masks], np.float32)
    related = affinity(_coarse(masks, segmentation), scores) >= least
    related &= near[np.ix_(labelled, labelled)]
    related &= names[labelled][:, None] == names[labelled][None]
    _, group_of = connected_components(coo_array(related), directed=False)
    members = [labelled[group_of == group] for group in np.unique(group_of)]
    return [group for group in members if len(group) > 1]


def affinity(cells: NDArray[np.uint8], scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how probably masks show parts of one thing if they have one label, `[n, n]`.

    `cells` are the masks at low resolution, 0 or 1, uint8 `[n, rows, columns]`, `scores` `[n]`.
    """
    flat = cells.reshape(len(cells), -1).astype(np.float32)
    wider = np.stack([cv2.dilate(mask, np.ones((3, 3), np.uint8)) for mask in cells])
    both, area = flat @ flat.T, flat.sum(axis=1)
    iou = both / np.maximum(area[:, None] + area[None] - both, 1.0)
    outline = wider.reshape(len(cells), -1) - flat
    touch = outline @ flat.T / np.maximum(outline.sum(axis=1), 1.0)[:, None]
    touch = np.where(area[:, None] <= area[None], touch, touch.T)
    least = np.minimum(scores[:, None], scores[None])
    odds = IOU_WEIGHT * iou + TOUCH_WEIGHT * touch + SCORE_WEIGHT * least + BIAS
    return np.where(both + touch > 0, expit(odds), 0.0).astype(np.float32)


def same_depth(depths: NDArray[np.float32], tolerance: float) -> NDArray[np.bool_]:
    """Tell which depths `[n]` differ by no more than a share of the nearer one, or are unknown."""
    differences = np.abs(depths[:, None] - depths[None])
    within = differences <= tolerance * np.minimum(depths[:, None], depths[None])
    return np.asarray(within | np.isnan(differences))


def _coarse(masks: list[InstanceMask], segmentation: Segmentation) -> NDArray[np.uint8]:
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
    return replace(
        best,
        id=number,
        bbox=(left, top, right - left, bottom - top),
        area=int(np.count_nonzero(union)),
        counts=encode(union),
        label_score=max(member.label_score for member in members),
        parent=0,
        level=0,
    )


def _renumbered(masks: list[InstanceMask], whole_of: dict[int, int]) -> tuple[InstanceMask, ...]:
    """Link parts to their things, sort by area, number from 1, and count levels anew."""
    ordered = sorted(masks, key=lambda mask: -mask.area)
    number = {mask.id: place for place, mask in enumerate(ordered, start=1)}
    parent = {mask.id: whole_of.get(mask.id, mask.parent) for mask in ordered}
    level: dict[int, int] = {0: -1}
    linked = []
    for mask in ordered:
        above = parent[mask.id]
        # A parent is larger, so that its level is known.
        level[mask.id] = level.get(above, -1) + 1
        linked.append(
            replace(
                mask,
                id=number[mask.id],
                parent=number.get(above, 0),
                level=level[mask.id],
                label="" if mask.id in whole_of else mask.label,
                label_score=0.0 if mask.id in whole_of else mask.label_score,
            )
        )
    return tuple(linked)
