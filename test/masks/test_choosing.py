"""Which mask is meant by a point, a box, a label, an id, or several of these."""

import numpy as np
import pytest

from aopsam_ros.errors import InputError
from aopsam_ros.masks.choosing import Criteria, choose
from support.drawn_masks import instance_of, rectangle

SIZE = 60, 80
TABLE = instance_of(rectangle(10, 60, 0, 80, SIZE), 1, score=0.6, label="table")
MUG = instance_of(rectangle(20, 40, 30, 50, SIZE), 2, score=0.9, label="mug")
HANDLE = instance_of(rectangle(25, 35, 45, 50, SIZE), 3, score=0.5)
OTHER_MUG = instance_of(rectangle(0, 8, 0, 20, SIZE), 4, score=0.8, label="mug")
MASKS = [TABLE, MUG, HANDLE, OTHER_MUG]


@pytest.mark.parametrize(
    ("criteria", "meant"),
    [
        ({"point": (47.0, 30.0)}, MUG),  # of three that hold it the one of the highest score
        ({"point": (5.0, 50.0)}, TABLE),
        ({"box": (44.0, 24.0, 51.0, 36.0)}, HANDLE),  # agreement counts, not the score
        ({"box": (28.0, 18.0, 52.0, 42.0)}, MUG),
        ({"label": "mug"}, MUG),
        ({"label": "mug", "box": (0.0, 0.0, 25.0, 9.0)}, OTHER_MUG),
        ({"id": 3}, HANDLE),
        ({"id": 1, "point": (47.0, 30.0)}, TABLE),
    ],
)
def test_the_best_of_those_that_fulfil_all_is_meant(criteria, meant):
    assert choose(MASKS, Criteria(**criteria)) is meant


@pytest.mark.parametrize(
    ("criteria", "reason"),
    [
        ({"point": (5.0, 9.0)}, "no mask of the newest image is at 5, 9"),
        ({"point": (-1.0, 900.0)}, "no mask of the newest image is at"),
        ({"box": (30.0, 0.0, 40.0, 9.0)}, "touches the box"),
        ({"label": "cup"}, "is labelled 'cup'"),
        ({"id": 9}, "has the id 9"),
        ({"id": 4, "label": "table"}, "is labelled 'table'"),
    ],
)
def test_what_no_mask_fulfils_is_said(criteria, reason):
    with pytest.raises(InputError, match=reason):
        choose(MASKS, Criteria(**criteria))


def test_something_has_to_be_said_and_be_finite():
    with pytest.raises(InputError, match="say what is meant"):
        Criteria()
    with pytest.raises(InputError, match="not finite"):
        Criteria(point=(np.nan, 1.0))
    with pytest.raises(InputError, match="has no masks"):
        choose([], Criteria(id=1))


def test_a_mask_has_holes():
    ring = instance_of(~rectangle(20, 40, 20, 40, SIZE))
    with pytest.raises(InputError, match="is at 30, 30"):
        choose([ring], Criteria(point=(30.0, 30.0)))
