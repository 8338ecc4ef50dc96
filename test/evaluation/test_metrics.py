"""Metrics against hand-computed and brute-force cases."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aopsam_ros.evaluation import points
from aopsam_ros.evaluation.automatic import ImageResult, measure
from aopsam_ros.evaluation.metrics import (
    closest,
    coverage,
    instance_masks,
    iou_matrix,
    one_to_one,
)
from aopsam_ros.evaluation.summary import summarize
from aopsam_ros.masks.rle import encode_full
from aopsam_ros.results import InstanceMask, Prompt, PromptState, Segmentation


def test_greedy_matching_by_hand():
    iou = np.array([[0.9, 0.8], [0.7, 0.0], [0.1, 0.2]])
    # 0.9 first; its mask and object are gone, so the second object gets 0.2, not 0.8.
    assert one_to_one(iou) == pytest.approx((0.9 + 0.2) / 2)
    assert closest(iou) == pytest.approx((0.9 + 0.7 + 0.2) / 3)


def test_missed_objects_count_as_zero():
    assert one_to_one(np.array([[0.6, 0.1, 0.0]])) == pytest.approx(0.2)
    assert one_to_one(np.zeros((0, 4))) == 0
    assert closest(np.zeros((0, 4))) == 0


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


def rectangle(top, bottom, left, right):
    mask = np.zeros((30, 40), bool)
    mask[top:bottom, left:right] = True
    return mask


def test_a_photographs_figures_by_hand():
    truth = [rectangle(0, 10, 0, 10), rectangle(20, 30, 20, 40)]
    # IoU with the first: 50 / 100; with the second: 200 / 200; the third meets none.
    found = [rectangle(0, 10, 0, 5), rectangle(20, 30, 20, 40), rectangle(0, 5, 30, 40)]
    states = ["DECODED", "DECODED", "ELIMINATED", "REJECTED", "DECODED", "UNUSED", "ELIMINATED"]
    prompts = tuple(Prompt(1, 1, 0.5, PromptState[state]) for state in states)
    stages = {"preprocess": 1, "encoder": 20, "predictor": 3, "sampling": 4, "decoder": 50}
    timings = stages | {"filtering": 5, "postprocess": 6, "total": 90}
    masks = segmentation_of(found).masks
    segmentation = Segmentation(30, 40, masks, prompts, 4, timings, None, "drawn", "none")
    assert measure(segmentation, truth) == ImageResult(
        one_to_one=pytest.approx((0.5 + 1.0) / 2),
        closest=pytest.approx((0.5 + 1.0 + 0.0) / 3),
        coverage_50=1.0,
        coverage_75=0.5,
        masks=3,
        prompts=7,
        kept=3,
        eliminated=2,
        decoder_calls=4,
        prompt_ms=12,
        total_ms=90,
    )


def result(value, prompts, eliminated, ms):
    whole = {"masks": 10 * prompts, "prompts": prompts, "kept": prompts - eliminated}
    shares = {"coverage_50": value, "coverage_75": value / 2}
    calls = {"eliminated": eliminated, "decoder_calls": 2 * prompts}
    return ImageResult(value, value / 4, **shares, **whole, **calls, prompt_ms=ms, total_ms=10 * ms)


def test_a_row_by_hand():
    results = [result(0.2, 4, 1, 10.0), result(0.4, 6, 0, 30.0), result(0.9, 10, 4, 20.0)]
    row = summarize(results, detector_ms=100.0, coco=(0.6, 0.7))
    assert (row.images, row.one_to_one, row.closest) == (
        3,
        pytest.approx(0.5),
        pytest.approx(0.125),
    )
    assert (row.coverage_50, row.coverage_75) == (pytest.approx(0.5), pytest.approx(0.25))
    assert row.prompts == pytest.approx(20 / 3) and row.masks == pytest.approx(200 / 3)
    assert row.decoder_calls == pytest.approx(40 / 3) and row.kept == pytest.approx(5)
    assert row.eliminated == pytest.approx(5 / 20)  # of all prompts, not a mean of shares
    assert (row.prompt_ms, row.total_ms) == (120.0, 300.0)  # medians, the detector's time on top
    # 95 % of the way from the first to the last of three: nine tenths from the second to the third.
    assert (row.prompt_ms_p95, row.total_ms_p95) == (pytest.approx(129), pytest.approx(390))
    assert (row.average_recall, row.average_precision) == (0.6, 0.7)
    assert summarize([result(1.0, 0, 0, 1.0)]).eliminated == 0.0
