"""Small holes are filled, small islands removed."""

import numpy as np
import pytest
from scipy import ndimage

from aopsam_ros.geometry import resized_geometry
from aopsam_ros.masks.cleaning import clean_logits
from aopsam_ros.options import MaskOptions

SIDE = 32
GEOMETRY = resized_geometry(4 * SIDE, 4 * SIDE, 2 * SIDE)  # a logit is 4 x 4 source pixels
EIGHT = np.ones((3, 3))


def cleaned(mask, hole=0, island=0, share=0.0):
    """The mask after cleaning with areas in low-resolution pixels."""
    logits = np.where(mask, 2.0, -3.0).astype(np.float32)[None]
    options = MaskOptions(
        min_hole_area=16 * hole, min_island_area=16 * island, min_island_share=share
    )
    found = clean_logits(logits, GEOMETRY, options)
    same = (found[0] > 0) == mask
    assert (found[0][same] == logits[0][same]).all()  # what stays is not touched
    return found[0] > 0


def drawing():
    mask = np.zeros((SIDE, SIDE), bool)
    mask[4:20, 4:20] = True
    return mask


def test_a_hole_is_filled_and_a_bay_is_not():
    mask = drawing()
    mask[8, 8] = mask[4, 12] = False  # a hole, and a bay open to the outside
    found = cleaned(mask, hole=2)
    assert found[8, 8] and not found[4, 12]
    assert not cleaned(mask, hole=1)[8, 8]


def test_background_at_the_border_is_no_hole():
    mask = ~np.eye(SIDE, dtype=bool)
    mask[0, 0] = True
    assert (cleaned(mask, hole=2 * SIDE) == mask).all()


def test_an_island_goes_and_the_largest_stays():
    mask = drawing()
    mask[30, 30] = True
    assert (cleaned(mask, island=100) == drawing()).all()


def test_islands_below_a_share_of_the_largest_go():
    """Whatever the image's resolution: the largest has 256 pixels here."""
    mask = drawing()
    mask[24:28, 24:28] = True  # 16
    mask[24:30, 4:10] = True  # 36
    assert (cleaned(mask, share=0.05) == mask).all()
    one = cleaned(mask, share=0.1)
    assert not one[25, 25] and one[26, 6]
    for share in (0.2, 1.0):
        assert (cleaned(mask, share=share) == drawing()).all()
    assert (cleaned(mask, island=37, share=0.01) == drawing()).all()  # what removes more


@pytest.mark.parametrize("mask", [np.zeros((SIDE, SIDE), bool), np.ones((SIDE, SIDE), bool)])
def test_of_nothing_and_of_all_no_island_goes(mask):
    assert (cleaned(mask, hole=3, island=5, share=1.0) == mask).all()


def test_what_lies_in_a_small_island_or_hole_goes_with_it():
    ring = drawing()
    ring[26:29, 26:29] = True
    ring[27, 27] = False  # a hole in an island
    assert (cleaned(ring, hole=2, island=10) == drawing()).all()
    holed = drawing()
    holed[8:11, 8:11] = False
    holed[9, 9] = True  # an island in a hole
    assert (cleaned(holed, hole=10, island=2) == drawing()).all()


def test_padding_takes_no_part():
    wide = resized_geometry(2 * SIDE, 4 * SIDE, 2 * SIDE)
    logits = np.full((1, SIDE, SIDE), -1.0, np.float32)
    logits[0, 20:] = 1.0  # in the padding only
    logits[0, 2, 2] = logits[0, 2, 3] = 1.0
    found = clean_logits(logits, wide, MaskOptions(min_island_area=160))
    assert (found == logits).all()


def test_nothing_to_do_gives_what_was_given():
    logits = np.zeros((1, SIDE, SIDE), np.float32)
    assert clean_logits(logits, GEOMETRY, MaskOptions(min_hole_area=16)) is logits


@pytest.mark.parametrize("seed", range(5))
def test_nothing_small_is_left(seed):
    mask = np.random.default_rng(seed).random((SIDE, SIDE)) > 0.5
    found = cleaned(mask, hole=6, island=6)
    labels, count = ndimage.label(found, EIGHT)
    assert min(np.bincount(labels.ravel())[1:]) >= 6 or count == 1
