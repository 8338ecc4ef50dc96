"""Other formats of masks, against pixel loops."""

import itertools
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aopsam_ros.errors import MaskFormatError
from aopsam_ros.masks import encode_full, to_coco, to_label_map, to_polygons
from aopsam_ros.masks.formats import SEAM, fill_seams

MASKS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=16))


def message(pixels, number=1):
    (x, y, w, h), counts = encode_full(pixels)
    roi = SimpleNamespace(x_offset=x, y_offset=y, width=w, height=h)
    return SimpleNamespace(id=number, roi=roi, counts=counts)


@given(MASKS)
def test_coco_runs_give_the_mask_back(pixels):
    coco = to_coco(message(pixels), *pixels.shape)
    values = np.repeat(np.arange(len(coco["counts"])) % 2, coco["counts"])
    np.testing.assert_array_equal(values.reshape(coco["size"], order="F"), pixels)


@given(hnp.arrays(np.bool_, (4, 9, 8)))
def test_label_map_shows_the_last_painted(stack):
    labels = to_label_map([message(m, i + 10) for i, m in enumerate(stack)], 9, 8)
    for row in range(9):
        for column in range(8):
            above = [i for i in range(4) if stack[i, row, column]]
            assert labels[row, column] == (above[-1] + 10 if above else 0)


@pytest.mark.parametrize(
    ("given", "filled"),
    [
        (["110222", "110222", "000000"], ["111222", "111222", "000000"]),
        (["1002", "1002", "0000"], ["1122", "1122", "0000"]),
        (["10002", "30002"], ["11122", "33322"]),
        (["100002"], ["100002"]),  # too far apart to touch
        (["10100", "10111"], ["10100", "10111"]),  # a bay of one mask
        (["0012", "3000"], ["0012", "3000"]),  # a row's end is not the next one's begin
        (["1", "0", "2"], ["1", "1", "2"]),
        (["0"], ["0"]),
    ],
)
def test_where_masks_touch_a_label_map_has_no_gaps(given, filled):
    labels = np.array([list(map(int, row)) for row in given], np.uint16)
    fill_seams(labels)
    assert ["".join(map(str, row)) for row in labels] == filled


@given(hnp.arrays(np.uint16, (7, 9), elements=st.sampled_from([0, 0, 0, 1, 2, 65535])))
def test_labels_stay_and_no_column_has_a_seam(labels):
    before = labels.copy()
    fill_seams(labels)
    assert (labels[before > 0] == before[before > 0]).all()
    for column in labels.T:  # columns are filled last
        for above, below in itertools.pairwise(np.flatnonzero(column)):
            assert not 1 < below - above <= SEAM + 1 or column[above] == column[below]


@given(MASKS)
def test_polygons_outline_every_part(pixels):
    outlines = to_polygons(message(pixels))
    canvas = np.zeros(pixels.shape, np.uint8)
    for outline in outlines:
        cv2.fillPoly(canvas, [outline.reshape(-1, 1, 2)], 1)
    parts, _ = cv2.connectedComponents(pixels.astype(np.uint8), connectivity=8)
    assert len(outlines) <= parts - 1
    assert (canvas[pixels] == 1).all()  # only holes are added
    filled = canvas.astype(bool) & ~pixels
    empty = np.pad(~pixels, 1, constant_values=True).astype(np.uint8)
    _, background = cv2.connectedComponents(empty, connectivity=4)
    assert not (filled & (background[1:-1, 1:-1] == background[0, 0])).any()


def test_simplified_polygons_have_fewer_corners_and_stay_close():
    disc = np.zeros((80, 80), np.uint8)
    cv2.circle(disc, (40, 40), 30, 1, -1)
    (exact,) = to_polygons(message(disc.astype(bool)))
    (rough,) = to_polygons(message(disc.astype(bool)), tolerance=2.0)
    assert len(rough) < len(exact) / 2
    radius = np.hypot(*(rough - 40).T)
    assert (np.abs(radius - 30) < 3).all()


@given(st.integers(-3, 3), st.integers(-3, 3))
def test_masks_outside_the_image_are_refused(rows, columns):
    pixels = np.ones((5, 6), bool)
    if rows >= 0 and columns >= 0:
        assert to_label_map([message(pixels)], 5 + rows, 6 + columns).sum() == 30
        return
    for convert in (to_coco, lambda mask, h, w: to_label_map([mask], h, w)):
        with pytest.raises(MaskFormatError, match="not inside"):
            convert(message(pixels), 5 + rows, 6 + columns)
