"""Masks given by their runs, against masks given by their pixels."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aopsam_ros.masks import encode_full
from aopsam_ros.masks.upscaling import Runs, encode_runs

MASKS = hnp.arrays(np.bool_, st.tuples(*[st.integers(0, 4)] + [st.integers(1, 9)] * 2))


def runs_of(masks, cut=()):
    """Write down every row's runs, pixel by pixel; those over a column of `cut` in two parts."""
    found, bounds = [], [0]
    for mask in masks:
        for y, row in enumerate(mask.tolist()):
            start = None
            for x, pixel in enumerate([*row, False]):
                if start is not None and (not pixel or x in cut):
                    found.append((y, start, x))
                    start = None
                if pixel and start is None:
                    start = x
        bounds.append(len(found))
    return Runs(*np.array(found, np.int64).reshape(-1, 3).T, np.array(bounds))


def assert_encoded(encoded, masks):
    assert len(encoded) == len(masks)
    for found, mask in zip(encoded, masks, strict=True):
        box, counts = encode_full(mask)
        assert found.bbox == box
        assert found.area == mask.sum()
        assert found.counts.dtype == np.uint32
        assert found.counts.tolist() == counts.tolist()


@given(MASKS)
def test_same_as_from_the_pixels(masks):
    assert_encoded(encode_runs(runs_of(masks)), masks)


@given(MASKS, st.sets(st.integers(1, 8)))
def test_runs_that_touch_are_one(masks, cut):
    assert_encoded(encode_runs(runs_of(masks, cut)), masks)


@given(MASKS, st.integers(0, 20), st.integers(-1, 0))
def test_runs_without_a_pixel_count_for_nothing(masks, where, length):
    runs = runs_of(masks)
    at = min(where, len(runs.row))
    empty = (3, 50, 50 + length)
    longer = [
        np.insert(values, at, value)
        for values, value in zip((runs.row, runs.start, runs.end), empty, strict=True)
    ]
    bounds = runs.bounds + (runs.bounds > at)
    if len(masks):
        bounds[-1] = len(longer[0])
        assert_encoded(encode_runs(Runs(*longer, bounds)), masks)
