"""Run lengths: round trip, agreement with a pixel loop, and every malformed input refused."""

from array import array
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aopsam_ros.errors import MaskFormatError
from aopsam_ros.masks import decode, decode_full, encode, encode_full
from aopsam_ros.masks.rle import MAX_PIXELS, box_of
from aopsam_ros.results import InstanceMask

MASKS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24))


def message(counts, x=0, y=0, w=3, h=2):
    roi = SimpleNamespace(x_offset=x, y_offset=y, width=w, height=h, do_rectify=False)
    return SimpleNamespace(roi=roi, counts=counts)


def instance(counts, bbox=(0, 0, 3, 2)):
    return InstanceMask(1, bbox, 0, 0.0, 0.0, (0.0, 0.0), 0.0, "", np.asarray(counts, np.uint32))


def loop_encode(mask):
    """The definition, pixel by pixel."""
    counts, value, run = [], False, 0
    for pixel in mask.ravel().tolist():
        if pixel == value:
            run += 1
        else:
            counts.append(run)
            value, run = pixel, 1
    return [*counts, run]


@given(MASKS)
def test_encode_agrees_with_the_definition(mask):
    counts = encode(mask)
    assert counts.dtype == np.uint32
    assert counts.tolist() == loop_encode(mask)
    assert counts.sum() == mask.size


@given(MASKS)
def test_round_trip(mask):
    h, w = mask.shape
    np.testing.assert_array_equal(decode(message(encode(mask), w=w, h=h)), mask)
    np.testing.assert_array_equal(decode(instance(encode(mask), (5, 7, w, h))), mask)


@given(MASKS, st.integers(0, 5), st.integers(0, 5))
def test_round_trip_on_the_image(mask, margin_x, margin_y):
    full = np.pad(mask, ((margin_y, 3), (margin_x, 2)))
    bbox, counts = encode_full(full)
    np.testing.assert_array_equal(decode_full(instance(counts, bbox), *full.shape), full)
    if full.any():
        crop = decode(instance(counts, bbox))
        # Tight: every side of the box touches the mask.
        assert crop[0].any() and crop[-1].any() and crop[:, 0].any() and crop[:, -1].any()
    else:
        assert bbox == (0, 0, 0, 0)


@pytest.mark.parametrize(
    "counts", [[1, 3, 2], array("I", [1, 3, 2]), np.array([1, 3, 2], np.uint32), (1, 3, 2)]
)
def test_counts_of_any_sequence(counts):
    mask = [[False, True, True], [True, False, False]]  # row by row
    assert decode(message(counts)).tolist() == mask
    assert encode(np.array(mask)).tolist() == [1, 3, 2]


def test_empty_box_and_what_is_no_mask():
    with pytest.raises(MaskFormatError):
        encode(np.zeros((2, 2, 2), bool))
    assert encode(np.zeros((0, 4), bool)).tolist() == []
    assert decode(message([], w=0, h=0)).shape == (0, 0)
    assert decode(message([0], w=0, h=4)).shape == (4, 0)
    assert not decode_full(message([], w=0, h=0), 4, 5).any()


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ([1, 3, 1], "sum to 5"),
        ([1, 3, 3], "sum to 7"),
        ([], "sum to 0|whole numbers"),
        ([7], "longer than its box"),
        ([-1, 7], "negative"),
        ([1, -1, 6], "negative"),
        ([1, 0, 5], "empty run"),
        ([1.5, 4.5], "whole numbers"),
        ([[1, 3, 2]], "whole numbers"),
        (["6"], "whole numbers"),
        ([1] * 8, "too many"),
        ([2**32 - 1, 7], "longer than its box"),  # would sum to 6 in 32 bits
        ([2**63 - 1, 2**63 - 1, 8], "longer than its box"),  # would sum to 6 in 64 bits
        (np.array([2**64 - 1, 7], np.uint64), "longer than its box"),
    ],
)
def test_malformed_counts_are_refused(counts, reason):
    with pytest.raises(MaskFormatError, match=reason):
        decode(message(counts))


@pytest.mark.parametrize(
    "box", [dict(x=2), dict(y=3), dict(x=2**32 - 4), dict(x=1, w=4, h=1, y=4), dict(w=6, h=1)]
)
def test_box_outside_the_image_is_refused(box):
    pixels = box.get("w", 3) * box.get("h", 2)
    with pytest.raises(MaskFormatError, match="not inside the image"):
        decode_full(message([pixels], **box), 4, 4)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, 0.5])
def test_a_box_that_is_no_whole_numbers_is_refused(value):
    with pytest.raises(MaskFormatError, match="four whole numbers"):
        box_of(SimpleNamespace(bbox=(0, value, 2, 2)))


@pytest.mark.parametrize(
    "box", [dict(w=2**32 - 1, h=2**32 - 1), dict(w=MAX_PIXELS, h=2), dict(w=-3), dict(h=-2)]
)
def test_absurd_box_is_refused_before_allocating(box):
    with pytest.raises(MaskFormatError):
        decode(message([box.get("w", 3) * box.get("h", 2) % 2**31], **box))


@pytest.mark.parametrize("box", [dict(x=2**32 - 3), dict(y=2**32 - 2), dict(x=2**33)])
def test_a_box_that_ends_beyond_what_the_message_can_say_is_refused(box):
    with pytest.raises(MaskFormatError, match="beyond any image"):
        decode(message([6], **box))


@pytest.mark.parametrize("size", [(0, 4), (-1, 4), (1 << 20, 1 << 20)])
def test_absurd_image_is_refused_before_allocating(size):
    with pytest.raises(MaskFormatError):
        decode_full(message([6]), *size)


@given(st.lists(st.integers(-3, 12), max_size=9), st.integers(0, 5), st.integers(0, 5))
def test_any_counts_give_a_mask_of_the_box_or_a_clear_error(counts, w, h):
    valid = (
        len(counts) <= w * h + 1
        and sum(counts) == w * h
        and all(count >= (index > 0) for index, count in enumerate(counts))
    )
    if valid:
        crop = decode(message(counts, w=w, h=h))
        assert crop.shape == (h, w)
        assert np.count_nonzero(crop) == sum(counts[1::2])
    else:
        with pytest.raises(MaskFormatError):
            decode(message(counts, w=w, h=h))
