"""Selection among three masks, stability, and the two thresholds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aopsam_ros.engines.base import DecodedOnHost
from aopsam_ros.masks.selection import concatenate, promising, select, stability_score
from aopsam_ros.options import MaskOptions

EVERYTHING = MaskOptions(predicted_iou_threshold=0.0, stability_threshold=0.0)
LOGITS = hnp.arrays(np.float32, (4, 3, 6, 6), elements=st.floats(-4, 4, width=16))
SHARES = st.floats(0, 1, width=32)
IOUS = hnp.arrays(np.float32, (4, 3), elements=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]))


def chosen(decoded, prompts, valid, options, **words):
    """Both steps: what predicted IoU lets through, and what is stable."""
    return select(promising(decoded, options), prompts, valid, options, **words)


@given(LOGITS, st.floats(0, 3))
def test_stability_is_the_iou_of_two_thresholds(logits, offset):
    masks = logits.reshape(12, 6, 6)
    scores = stability_score(masks, offset)
    for index, mask in enumerate(masks):
        high, low = mask > offset, mask > -offset
        union = (high | low).sum()
        expected = (high & low).sum() / union if union else 0.0
        assert scores[index] == pytest.approx(expected, abs=1e-6)


@given(LOGITS, IOUS)
def test_best_takes_the_highest_predicted_iou(logits, ious):
    found = chosen(DecodedOnHost(logits, ious), np.arange(10, 14), (6, 6), EVERYTHING)
    assert found.prompt.tolist() == [10, 11, 12, 13]
    for row in range(4):
        best = ious[row].tolist().index(max(ious[row]))  # the first of equals
        np.testing.assert_array_equal(found.logits[row], logits[row, best])
        assert found.predicted_iou[row] == ious[row, best]


@given(LOGITS, IOUS, SHARES, SHARES, st.sampled_from(["best", "all"]))
def test_thresholds_are_inclusive_and_exact(logits, ious, least_iou, least_stability, which):
    options = MaskOptions(least_iou, least_stability, candidates=which)
    found = chosen(DecodedOnHost(logits, ious), np.arange(4), (5, 4), options, offset=1.0)
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


def test_padding_has_no_say_in_stability():
    logits = np.full((1, 3, 4, 4), 5.0, np.float32)
    logits[:, :, 2:] = 0.5  # uncertain, but in the padding
    found = chosen(
        DecodedOnHost(logits, np.ones((1, 3), np.float32)), np.arange(1), (2, 4), EVERYTHING
    )
    assert found.stability.tolist() == [1.0]


def test_predicted_iou_above_one_is_reported_as_one():
    logits = np.ones((1, 3, 4, 4), np.float32)
    found = chosen(
        DecodedOnHost(logits, np.float32([[1.2, 1.3, 0]])), np.arange(1), (4, 4), EVERYTHING
    )
    assert found.predicted_iou.tolist() == [1.0]


def test_concatenate_keeps_the_order_and_copes_with_nothing():
    logits = np.arange(3 * 3 * 4, dtype=np.float32).reshape(1, 9, 2, 2)[:, :3]
    ious = np.float32([[0.5, 0.2, 0.1]])
    a = chosen(DecodedOnHost(logits, ious), np.array([4]), (2, 2), EVERYTHING)
    b = chosen(DecodedOnHost(logits, ious), np.array([2]), (2, 2), EVERYTHING)
    assert concatenate([a, b], 2).prompt.tolist() == [4, 2]
    assert concatenate([a, b], 2).take(np.array([1])).candidate.tolist() == [0]
    nothing = concatenate([], 2)
    assert len(nothing) == 0
    assert nothing.logits.shape == (0, 2, 2)
