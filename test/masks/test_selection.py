"""Selection among three masks, stability, and the two thresholds."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aopsam_ros.masks.selection import (
    LEAST_SHARE,
    LowResMasks,
    ScoreWeights,
    concatenate,
    filter_by_iou,
    filter_by_score,
    log_share,
    lowered,
    mask_corners,
    stability_score,
)
from aopsam_ros.options import MaskOptions

EVERYTHING = MaskOptions(predicted_iou_threshold=0.0, stability_threshold=0.0)
LOGITS = hnp.arrays(np.float32, (4, 3, 6, 6), elements=st.floats(-4, 4, width=16))
SHARES = st.floats(0, 1, width=32)
IOUS = hnp.arrays(np.float32, (4, 3), elements=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]))


def chosen(logits, ious, options, valid=(6, 6), offset=1.0):
    """Both filters, of the masks of prompts 0, 1, ..."""
    rows, columns = filter_by_iou(ious, options.predicted_iou_threshold, options.candidates, True)
    kept = logits[rows, columns]
    stability = stability_score(kept[:, : valid[0], : valid[1]], offset)
    iou, strong = ious[rows, columns], np.ones(len(rows), bool)
    masks = LowResMasks(kept, iou, stability, iou, rows, columns, strong)
    return filter_by_score(masks, options)


@given(LOGITS, st.floats(0, 3))
def test_stability_is_the_iou_of_two_thresholds(logits, offset):
    masks = logits.reshape(12, 6, 6)
    scores = stability_score(masks, offset)
    for index, mask in enumerate(masks):
        high, low = mask > offset, mask > -offset
        union = (high | low).sum()
        expected = (high & low).sum() / union if union else 0.0
        assert scores[index] == pytest.approx(expected, abs=1e-6)


@given(LOGITS, IOUS, SHARES, SHARES, st.sampled_from(["best", "all"]))
def test_thresholds_are_inclusive_and_exact(logits, ious, least_iou, least_stability, which):
    options = MaskOptions(least_iou, least_stability, candidates=which)
    found = chosen(logits, ious, options, (5, 4))
    wanted = []
    for prompt in range(4):
        masks = range(3) if which == "all" else [int(np.argmax(ious[prompt]))]
        for mask in masks:
            stability = stability_score(logits[prompt, mask : mask + 1, :5, :4], 1.0)[0]
            if ious[prompt, mask] >= least_iou and stability >= least_stability:
                wanted.append((prompt, mask))
    assert list(zip(found.prompt.tolist(), found.candidate.tolist(), strict=True)) == wanted
    for row, (prompt, mask) in enumerate(wanted):
        np.testing.assert_array_equal(found.logits[row], logits[prompt, mask])
        assert found.predicted_iou[row] == ious[prompt, mask]


def test_concatenate_keeps_the_order_and_copes_with_nothing():
    logits = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 2, 2)
    masks = chosen(logits, np.float32([[0.5, 0.2, 0.1], [0.1, 0.3, 0.2]]), EVERYTHING)
    first, second = masks.take(np.array([1])), masks.take(np.array([0]))
    assert concatenate([first, second], 2).prompt.tolist() == [1, 0]
    assert concatenate([first, second], 2).take(np.array([1])).candidate.tolist() == [0]
    nothing = concatenate([], 2)
    assert len(nothing) == 0
    assert nothing.logits.shape == (0, 2, 2)


@pytest.mark.parametrize(
    ("candidates", "is_ambiguous", "columns"),
    [("best", True, [2]), ("all", True, [1, 2, 3]), ("best", False, [0]), ("all", False, [0])],
)
def test_of_four_masks_the_first_answers_prompts_without_doubt(candidates, is_ambiguous, columns):
    iou = np.array([[0.9, 0.3, 0.6, 0.5]], np.float32)
    assert filter_by_iou(iou, 0.0, candidates, is_ambiguous)[1].tolist() == columns


WEIGHTS = ScoreWeights(
    intercept=-2.0, predicted_iou=3.0, stability=0.0, confidence=0.0, extents=1.0, area=0.5
)


def test_the_score_is_a_logistic_regression():
    half = np.float32([0.5, 1.0])
    shares = np.log([1.0, np.exp(-2)])
    score = WEIGHTS.score(half, half, half, np.array([0.5, 0.0]), shares)
    np.testing.assert_allclose(score, [0.5, 0.5], rtol=1e-6)


def test_the_share_of_an_image_has_a_least_value():
    shares = log_share(np.array([0, 1, 5_000, 100_000]), 100_000)
    np.testing.assert_allclose(np.exp(shares), [LEAST_SHARE, LEAST_SHARE, 0.05, 1.0])


def test_corners_enclose_a_mask():
    masks = np.zeros((2, 5, 7), bool)
    masks[0, 1:3, 2:6] = True
    assert mask_corners(masks).tolist() == [[2, 1, 6, 3], [0, 0, 0, 0]]


@pytest.mark.parametrize(("amount", "expected"), [(0.1, (0.4, 0.6)), (0.6, (0.0, 0.1))])
def test_thresholds_are_lowered_and_nothing_else(amount, expected):
    full = MaskOptions(predicted_iou_threshold=0.5, stability_threshold=0.7)
    low = lowered(full, amount)
    assert (low.predicted_iou_threshold, low.stability_threshold) == pytest.approx(expected)
    assert low.score_threshold == 0.0
    assert replace(low, predicted_iou_threshold=0.5, stability_threshold=0.7) == full
