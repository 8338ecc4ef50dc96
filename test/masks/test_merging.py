"""Merging: groups against a plain search, unions, scores, and which prompts had a part."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aopsam_ros.masks.merging import merge, merge_groups
from aopsam_ros.masks.selection import LowResMasks
from support.drawn_masks import rectangle

MASKS = hnp.arrays(np.bool_, st.tuples(st.integers(0, 6), st.integers(1, 5), st.integers(1, 5)))


def connected(masks, threshold):
    """The definition: join pairs until nothing changes."""
    groups = list(range(len(masks)))
    for i in range(len(masks)):
        for j in range(i):
            both = (masks[i] & masks[j]).sum()
            if both > threshold * min(masks[i].sum(), masks[j].sum()):
                old, new = groups[i], groups[j]
                groups = [new if group == old else group for group in groups]
    return groups


@given(MASKS, st.sampled_from([0.0, 0.2345, 0.6789, 0.95, 1.0]))
def test_groups_agree_with_the_definition(masks, threshold):
    found, expected = merge_groups(masks, threshold), connected(masks, threshold)
    assert len(found) == len(masks)
    for i in range(len(masks)):
        for j in range(i):
            assert (found[i] == found[j]) == (expected[i] == expected[j])


def low_res(*masks, scores):
    logits = np.where(np.stack(masks), 3.0, -2.0).astype(np.float32)
    count = len(masks)
    stability = np.linspace(0.5, 0.9, count, dtype=np.float32)
    numbers = np.arange(count)
    score, strong = np.float32(scores), np.ones(count, bool)
    return LowResMasks(logits, score, stability, score, 10 + numbers, numbers % 3, strong)


def test_parts_of_one_thing_are_united_and_keep_the_best_ones_score():
    sides = (0, 4, 0, 4), (2, 4, 2, 6), (6, 8, 6, 8)
    body, handle, other = (rectangle(*each, size=(8, 8)) for each in sides)
    found = low_res(other, handle, body, scores=[0.5, 0.6, 0.8])
    masks, prompts = merge(found, found.binary(8, 8), 0.4)  # half of the handle is body
    assert masks.predicted_iou.tolist() == pytest.approx([0.8, 0.5])
    assert masks.stability.tolist() == pytest.approx([0.9, 0.5])
    assert masks.prompt.tolist() == [12, 10]
    assert [sorted(p.tolist()) for p in prompts] == [[11, 12], [10]]
    united = masks.binary(8, 8)
    np.testing.assert_array_equal(united[0], body | handle)
    np.testing.assert_array_equal(united[1], other)
    exact, _ = merge(found, found.binary(8, 8), 0.5)
    assert len(exact) == 3  # exactly the threshold is not above it


def test_nothing_to_merge():
    found = low_res(np.eye(8), scores=[1]).take(np.zeros(0, np.int64))
    assert len(merge(found, found.binary(8, 8), 0.5)[0]) == 0
