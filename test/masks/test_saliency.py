"""Which masks are salient: each part of the rank by itself, and what lies in one another."""

from dataclasses import replace

import numpy as np
import pytest

from aopsam_ros.masks.saliency import most_salient, saliency
from support.drawn_masks import instance_of, rectangle

SIZE = 120, 160
SIDES = [(35, 85, 55, 105), (0, 50, 0, 50), (58, 62, 78, 82), (0, 120, 0, 160)]
MASKS = [instance_of(rectangle(*sides, SIZE), number) for number, sides in enumerate(SIDES, 1)]
MIDDLE, CORNER, SPECK, GROUND = MASKS


@pytest.fixture
def rgb():
    """Red rectangles in the middle and in the corner of a grey image."""
    image = np.full((120, 160, 3), 110, np.uint8)
    image[35:85, 55:105] = image[:50, :50] = (220, 30, 30)
    return image


def test_middle_before_corner_and_thing_before_speck_and_ground(rgb):
    ranks = saliency(MASKS, rgb)
    assert ranks.argmax() == 0 and (ranks >= 0).all() and (ranks <= 1).all()
    assert ranks[0] > ranks[1] > ranks[3]


def test_contrast_and_score_count(rgb):
    faint = rgb.copy()
    faint[35:85, 55:105] = (115, 108, 108)
    assert saliency([MIDDLE], rgb)[0] > 1.5 * saliency([MIDDLE], faint)[0]
    assert saliency([MIDDLE], rgb)[0] > saliency([replace(MIDDLE, score=0.3)], rgb)[0]


def test_parts_of_a_chosen_thing_are_not_chosen(rgb):
    half = instance_of(rectangle(35, 85, 55, 80, SIZE), 5, parent=1, level=1)
    assert [m.id for m in most_salient([MIDDLE, half, CORNER], rgb, 2)] == [1, 2]
    (alone,) = most_salient([replace(MIDDLE, parent=4, level=1), GROUND], rgb, 1)
    assert (alone.id, alone.parent, alone.level) == (1, 0, 0)  # its parent is not among them
    assert most_salient([], rgb, 3) == ()
    assert len(most_salient([MIDDLE], rgb, 3)) == 1
