"""Metrics against hand-computed and brute-force cases."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aopsam_ros.evaluation import points
from aopsam_ros.evaluation.metrics import closest, instance_masks, iou_matrix, one_to_one
from aopsam_ros.masks.encoding import encode_full
from aopsam_ros.segmentation import InstanceMask, Segmentation


def test_greedy_matching_by_hand():
    iou = np.array([[0.9, 0.8], [0.7, 0.0], [0.1, 0.2]])
    # 0.9 first; its mask and object are gone, so the second object gets 0.2, not 0.8.
    assert one_to_one(iou) == pytest.approx((0.9 + 0.2) / 2)
    assert closest(iou) == pytest.approx((0.9 + 0.7 + 0.2) / 3)


def test_missed_objects_count_as_zero():
    assert one_to_one(np.array([[0.6, 0.1, 0.0]])) == pytest.approx(0.2)
    assert one_to_one(np.zeros((0, 4))) == 0
    assert closest(np.zeros((0, 4))) == 0


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
def test_greedy_matching_against_sorting(seed, predicted, truth):
    iou = np.random.default_rng(seed).random((predicted, truth)).round(2)
    assert one_to_one(iou) == pytest.approx(greedy(iou))


def random_masks(rng, count):
    masks = []
    for _ in range(count):
        y, x = rng.integers(0, 20), rng.integers(0, 30)
        mask = np.zeros((30, 40), bool)
        mask[y : y + rng.integers(1, 15), x : x + rng.integers(1, 15)] = True
        masks.append(mask)
    return masks


def segmentation_of(masks):
    instances = []
    for index, mask in enumerate(masks, start=1):
        box, counts = encode_full(mask)
        area = int(mask.sum())
        instances.append(InstanceMask(index, box, area, 0.9, 0.9, (0, 0), 0.9, "", counts))
    return Segmentation(30, 40, tuple(instances), (), 0, None, {}, "drawn", "none")


@given(st.integers(0, 10_000))
def test_iou_matrix_against_whole_masks(seed):
    rng = np.random.default_rng(seed)
    found, truth = random_masks(rng, 4), random_masks(rng, 3)
    segmentation = segmentation_of(found)
    expected = [[(a & b).sum() / (a | b).sum() for b in truth] for a in found]
    np.testing.assert_allclose(iou_matrix(segmentation, truth), expected)
    assert iou_matrix(segmentation, []).shape == (4, 0)
    assert iou_matrix(segmentation_of([]), truth).shape == (0, 3)


def test_small_instances_are_not_counted():
    layers = np.zeros((2, 100, 100), np.uint16)
    layers[0, :3, :3] = 1  # 9 pixels of 10,000: below 0.1 %
    layers[0, 10:12, 10:15] = 2  # exactly 10
    layers[1, 50:90, 50:90] = 7
    areas = sorted(int(mask.sum()) for mask in instance_masks(layers))
    assert areas == [10, 1600]


def test_points_lie_in_their_masks():
    rng = np.random.default_rng(0)
    masks = random_masks(rng, 6)
    for where in ("centre", "random"):
        for (x, y), mask in zip(points.prompt_points(masks, where, rng), masks, strict=True):
            assert mask[int(y), int(x)]


def test_every_photograph_counts_once():
    rows = [points.PointResult(0.8, 0.6, 9), points.PointResult(0.4, 0.4, 1)]
    assert points.mean(rows) == points.PointResult(pytest.approx(0.6), pytest.approx(0.5), 10)
