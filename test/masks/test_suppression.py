"""Suppression against a plain double loop."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aopsam_ros.masks.suppression import suppress_boxes, suppress_masks
from support.scenes import iou


def box_iou(a, b):
    def filled(mask):
        box = np.zeros_like(mask)
        rows, columns = np.nonzero(mask)
        if rows.size:
            box[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
        return box

    return iou(filled(a), filled(b))


def reference(masks, scores, threshold, overlap):
    """The definition: by descending score, keep what overlaps no kept mask too much."""
    kept = []
    for index in sorted(range(len(masks)), key=lambda i: (-scores[i], i)):
        if all(overlap(masks[index], masks[other]) <= threshold for other in kept):
            kept.append(index)
    return kept


@st.composite
def scored_masks(draw):
    count, rows, columns = draw(st.tuples(*[st.integers(0, 7)] + [st.integers(1, 9)] * 2))
    masks = draw(hnp.arrays(np.bool_, (count, rows, columns)))
    scores = draw(
        hnp.arrays(np.float32, count, elements=st.sampled_from([0.125, 0.25, 0.5, 0.875]))
    )
    return masks, scores


# Thresholds that no ratio of small areas can be near enough to for rounding to decide.
@given(scored_masks(), st.sampled_from([0.0, 0.123456, 0.4567891, 0.7000001, 0.95432, 1.0]))
@pytest.mark.parametrize(
    ("suppress", "overlap"), [(suppress_masks, iou), (suppress_boxes, box_iou)]
)
def test_agrees_with_the_definition(suppress, overlap, drawn, threshold):
    masks, scores = drawn
    expected = reference(masks, scores, threshold, overlap)
    assert suppress(masks, scores, threshold).tolist() == expected


def test_equal_overlap_is_kept():
    masks = np.zeros((2, 1, 4), bool)
    masks[0, 0, :4] = True
    masks[1, 0, :2] = True
    for suppress in (suppress_masks, suppress_boxes):
        assert suppress(masks, np.float32([1, 1]), 0.5).tolist() == [0, 1]
        assert suppress(masks, np.float32([1, 1]), 0.49).tolist() == [0]
