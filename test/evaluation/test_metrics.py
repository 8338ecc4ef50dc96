"""IoU, matching and shares, against hand-computed and brute-force cases."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aopsam_ros.evaluation.images import instance_masks
from aopsam_ros.evaluation.metrics import (
    closest,
    coverage,
    iou_matrix,
    match_one_to_one,
    near_copies,
    one_to_one,
)
from aopsam_ros.masks.iou import crop_of, pairwise_iou
from support.drawn_masks import random_masks, rectangle, segmentation_of


def test_greedy_matching_by_hand():
    iou = np.array([[0.9, 0.8], [0.7, 0.0], [0.1, 0.2]])
    # 0.9 first; its mask and object are gone, so the second object gets 0.2, not 0.8.
    assert match_one_to_one(iou) == [(0, 0), (2, 1)]
    assert one_to_one(iou) == pytest.approx((0.9 + 0.2) / 2)
    assert closest(iou) == pytest.approx((0.9 + 0.7 + 0.2) / 3)
    assert one_to_one(np.array([[0.6, 0.1, 0.0]])) == pytest.approx(0.2)  # two are missed
    assert one_to_one(np.zeros((0, 4))) == closest(np.zeros((0, 4))) == 0


def test_coverage_by_hand():
    # The first object is reached by both masks, the second just so, the third by none.
    iou = np.array([[0.9, 0.2, 0.0], [0.8, 0.5, 0.49]])
    assert coverage(iou, 0.5) == pytest.approx(2 / 3)
    assert coverage(iou, 0.75) == pytest.approx(1 / 3)
    assert coverage(np.zeros((0, 4)), 0.5) == 0


def greedy(iou):
    """The definition, by sorting all pairs."""
    rows, columns, total = set(), set(), 0.0
    pairs = [(-iou[r, c], r, c) for r in range(iou.shape[0]) for c in range(iou.shape[1])]
    for negative, r, c in sorted(pairs):
        if r not in rows and c not in columns:
            rows.add(r)
            columns.add(c)
            total -= negative
    return total / iou.shape[1]


@given(st.integers(0, 10_000), st.integers(0, 7), st.integers(1, 7))
def test_greedy_matching_against_sorting(seed, predicted, labelled):
    iou = np.random.default_rng(seed).random((predicted, labelled)).round(2)
    assert one_to_one(iou) == pytest.approx(greedy(iou))


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.3, 0.8]))
def test_iou_against_whole_masks(seed, at_least):
    rng = np.random.default_rng(seed)
    found, labelled = random_masks(rng, 4), random_masks(rng, 3)
    expected = np.array([[(a & b).sum() / (a | b).sum() for b in labelled] for a in found])
    np.testing.assert_allclose(iou_matrix(segmentation_of(found), labelled), expected)
    iou = pairwise_iou([*map(crop_of, found)], [*map(crop_of, labelled)], at_least)
    assert set(iou[iou != expected]) <= {0.0} and (expected[iou != expected] <= at_least).all()
    assert iou_matrix(segmentation_of(found), []).shape == (4, 0)
    assert iou_matrix(segmentation_of([]), labelled).shape == (0, 3)


def test_near_copies_by_hand():
    # The second shows 90 of the first's 100 pixels. The third has 80 of its 100 pixels in common
    # with the first, 72 with the second: an IoU of 80 / 120 and 72 / 118. The fourth is the first.
    first, second = rectangle(0, 10, 0, 10), rectangle(0, 10, 0, 9)
    third, fourth = rectangle(2, 12, 0, 10), rectangle(0, 10, 0, 10)
    masks = [crop_of(mask) for mask in (first, second, third, fourth)]
    assert near_copies(masks[:3], [0.9, 0.8, 0.7]) == pytest.approx(1 / 3)
    assert near_copies(masks[:3], [0.8, 0.9, 0.7]) == pytest.approx(1 / 3)
    # Whatever the scores, the best of the three stays; equal scores are no reason to keep both.
    assert near_copies(masks, [0.5, 0.5, 0.5, 0.5]) == pytest.approx(2 / 4)
    assert near_copies([], []) == 0


def test_small_instances_are_not_counted():
    layers = np.zeros((2, 100, 100), np.uint16)
    layers[0, :3, :3] = 1  # 9 pixels of 10,000: below 0.1 %
    layers[0, 10:12, 10:15] = 2  # exactly 10
    layers[1, 50:90, 50:90] = 7
    areas = sorted(int(mask.sum()) for mask in instance_masks(layers))
    assert areas == [10, 1600]
