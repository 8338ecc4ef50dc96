"""Preprocessing: SAM's sizes, normalisation before padding, coordinates there and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aopsam_ros.errors import InputError
from aopsam_ros.geometry import preprocess, resized_geometry

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
SIDES = st.integers(1, 9000)


@pytest.mark.parametrize(
    ("height", "width", "valid"),
    [
        (480, 640, (384, 512)),
        (640, 480, (512, 384)),
        (512, 512, (512, 512)),
        (1, 1, (512, 512)),
        (1, 5000, (1, 512)),
        (333, 1000, (170, 512)),  # 170.496
        (3, 1024, (2, 512)),  # 1.5 is rounded up
    ],
)
def test_long_side_fills_the_square_and_the_other_rounds_half_up(height, width, valid):
    geometry = resized_geometry(height, width, 512)
    assert (geometry.valid_height, geometry.valid_width) == valid


def test_normalised_then_padded_with_zeros():
    rgb = np.full((30, 60, 3), (10, 20, 30), np.uint8)
    image = preprocess(rgb, 64, MEAN, STD)
    assert image.tensor.shape == (1, 3, 64, 64)
    assert image.tensor.dtype == np.float32
    for channel in range(3):
        expected = (rgb[0, 0, channel] - MEAN[channel]) / STD[channel]
        np.testing.assert_allclose(image.tensor[0, channel, :32], expected, rtol=1e-5)
    assert not image.tensor[0, :, 32:].any()


def test_same_size_keeps_every_pixel_and_shrinking_averages():
    rgb = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    tensor = preprocess(rgb, 64, (0, 0, 0), (1, 1, 1)).tensor
    np.testing.assert_array_equal(tensor[0].transpose(1, 2, 0), rgb)
    rgb = np.zeros((128, 128, 3), np.uint8)
    rgb[::2, ::2] = 200  # one pixel of each 2 x 2 block
    np.testing.assert_allclose(preprocess(rgb, 64, (0, 0, 0), (1, 1, 1)).tensor, 50.0)


def test_array_layout_does_not_matter():
    rgb = np.random.default_rng(1).integers(0, 256, (40, 50, 3), np.uint8)
    expected = preprocess(rgb, 64, MEAN, STD).tensor
    bgr = np.ascontiguousarray(rgb[..., ::-1])
    wide = np.zeros((40, 100, 3), np.uint8)
    wide[:, ::2] = rgb
    for view in (bgr[..., ::-1], wide[:, ::2], np.asfortranarray(rgb)):
        assert not view.flags.c_contiguous
        np.testing.assert_array_equal(preprocess(view, 64, MEAN, STD).tensor, expected)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ([[1, 2, 3]], "numpy array, not list"),
        (None, "numpy array, not NoneType"),
        (np.zeros((4, 4, 3), np.float32), "uint8, not float32"),
        (np.zeros((4, 4), np.uint8), r"\[height, width, 3\], not \[4, 4\]"),
        (np.zeros((4, 4, 4), np.uint8), r"not \[4, 4, 4\]"),
        (np.zeros((0, 4, 3), np.uint8), "empty: 4 x 0"),
        (np.zeros((4, 0, 3), np.uint8), "empty: 0 x 4"),
    ],
)
def test_what_is_not_an_image_is_refused(image, reason):
    with pytest.raises(InputError, match=reason):
        preprocess(image, 64, MEAN, STD)


@given(height=SIDES, width=SIDES, size=st.sampled_from([8, 32, 100, 128, 256, 512]))
def test_valid_cells_are_those_with_their_centre_on_the_image(height, width, size):
    geometry = resized_geometry(height, width, 512)
    centres = (np.arange(size) + 0.5) * 512 / size
    rows, columns = geometry.valid_cells(size)
    assert rows == max(1, np.count_nonzero(centres < geometry.valid_height))
    assert columns == max(1, np.count_nonzero(centres < geometry.valid_width))


@given(height=SIDES, width=SIDES, size=st.sampled_from([8, 32, 128]), data=st.data())
def test_cells_there_and_back(height, width, size, data):
    geometry = resized_geometry(height, width, 512)
    rows, columns = geometry.valid_cells(size)
    cell = np.array([[data.draw(st.integers(0, columns - 1)), data.draw(st.integers(0, rows - 1))]])
    point = geometry.cells_to_source(cell, size)
    assert (point >= 0).all()
    assert (point <= [[width - 1, height - 1]]).all()
    # Clipping to the image moves a point by less than a source pixel or a cell.
    tolerance = 0.51 + geometry.scale * size / 512
    assert (np.abs(geometry.to_cells(point, size) - cell) <= tolerance).all()
