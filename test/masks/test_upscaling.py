"""Upscaling inside the box against SAM's two full-size resizes, with torch's formula."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aopsam_ros.geometry import resized_geometry
from aopsam_ros.masks import decode, encode_full
from aopsam_ros.masks.upscaling import Upscaler


def upscaled(geometry, low, logits):
    """The box of one mask, x, y, w, h, and the pixels inside it."""
    (mask,) = Upscaler(geometry, low)(logits[None])
    return mask.bbox, decode(mask)


def bilinear(image, height, width):
    """Half-pixel bilinear resize without antialiasing, as torch's interpolate."""

    def taps(output, inputs):
        position = np.maximum((np.arange(output) + 0.5) * inputs / output - 0.5, 0)
        low = np.floor(position).astype(int)
        return low, np.minimum(low + 1, inputs - 1), position - low

    y0, y1, fy = taps(height, image.shape[0])
    x0, x1, fx = taps(width, image.shape[1])
    rows = image[y0] * (1 - fy)[:, None] + image[y1] * fy[:, None]
    return rows[:, x0] * (1 - fx) + rows[:, x1] * fx


def sam_postprocess(logits, geometry):
    square = bilinear(logits.astype(np.float64), geometry.image_size, geometry.image_size)
    valid = square[: geometry.valid_height, : geometry.valid_width]
    return bilinear(valid, geometry.height, geometry.width)


def smooth_logits(seed, size, spread=3.0):
    noise = np.random.default_rng(seed).normal(size=(size, size)).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), spread) * 20 - 0.4


def assert_same(found, expected):
    """Equal but where a logit is so near the threshold that float32 may fall on either side."""
    (x, y, w, h), crop = found
    full = np.zeros(expected.shape, bool)
    full[y : y + h, x : x + w] = crop
    differs = full != (expected > 0)
    assert np.abs(expected[differs]).max(initial=0.0) < 1e-4
    assert crop.shape == (h, w)
    if w:
        assert crop[0].any() and crop[-1].any() and crop[:, 0].any() and crop[:, -1].any()


@pytest.mark.parametrize(
    ("height", "width"),
    [(512, 512), (480, 640), (720, 1280), (1280, 721), (60, 45), (1, 1), (1, 300), (7, 2000)],
)
@pytest.mark.parametrize(("square", "low"), [(512, 128), (1024, 256), (128, 32)])
def test_same_as_sam(height, width, square, low):
    geometry = resized_geometry(height, width, square)
    logits = smooth_logits(height + low, low)
    assert_same(upscaled(geometry, low, logits), sam_postprocess(logits, geometry))


@pytest.mark.parametrize("padding", [-1.0, 5.0])
def test_an_empty_mask_and_one_in_the_padding_have_an_empty_box(padding):
    logits = np.full((32, 32), -1.0, np.float32)
    logits[20:] = padding
    box, crop = upscaled(resized_geometry(100, 400, 128), 32, logits)
    assert box == (0, 0, 0, 0) and crop.size == 0


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 90), st.integers(1, 90), st.sampled_from([0.3, 1, 3]))
@pytest.mark.parametrize(("square", "low"), [(64, 16), (48, 32), (40, 16), (20, 20), (16, 40)])
def test_ragged_masks_in_any_size(square, low, seed, height, width, spread):
    """Also where square and logits are no whole multiples of each other."""
    geometry = resized_geometry(height, width, square)
    logits = smooth_logits(seed, low, spread)
    assert_same(upscaled(geometry, low, logits), sam_postprocess(logits, geometry))


def test_zero_is_outside():
    geometry = resized_geometry(96, 128, 128)
    logits = np.zeros((32, 32), np.float32)
    logits[10:14, 5:9] = logits[20, 20:25] = logits[:3, 30:] = 1.0
    expected = sam_postprocess(logits, geometry)
    (x, y, w, h), crop = upscaled(geometry, 32, logits)  # every weight is exact here
    np.testing.assert_array_equal(crop, (expected > 0)[y : y + h, x : x + w])
    assert crop.sum() == (expected > 0).sum()


@pytest.mark.parametrize("tiny", [1e-45, 1e-42, 1e-38])
def test_the_least_of_numbers_is_inside(tiny):
    geometry = resized_geometry(75, 100, 128)
    logits = np.full((32, 32), -1.0, np.float32)
    logits[4:20, 3:25] = tiny
    logits[8:12, 8:12] = 2.0
    (x, y, w, h), crop = upscaled(geometry, 32, logits)
    expected = sam_postprocess(logits, geometry) > 0
    np.testing.assert_array_equal(crop, expected[y : y + h, x : x + w])
    assert crop.sum() == expected.sum() > 3000


def test_many_at_once_are_the_same_as_pixels_encoded_one_by_one():
    geometry = resized_geometry(180, 320, 128)
    logits = np.stack([smooth_logits(seed, 32, 1.0 + seed % 4) for seed in range(21)])
    logits[[3, 17, 20]] = -1.0
    logits[8] = 1.0
    found = Upscaler(geometry, 32)(logits)
    assert len(found) == len(logits) and Upscaler(geometry, 32)(logits[:0]) == []
    for mask, values in zip(found, logits, strict=True):
        expected = sam_postprocess(values, geometry)
        assert np.abs(expected).min() > 1e-6  # nothing is left to rounding
        box, counts = encode_full(expected > 0)
        assert mask.bbox == box
        assert mask.area == (expected > 0).sum()
        assert mask.counts.tolist() == counts.tolist()
