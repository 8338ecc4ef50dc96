"""Which mask is meant by a point, a box, a label, an id, or several of these."""

from dataclasses import replace

import numpy as np
import pytest

from aopsam_ros.errors import InputError
from aopsam_ros.masks.choosing import Criteria, choose
from aopsam_ros.masks.rle import encode_full
from aopsam_ros.results import InstanceMask


def mask(number, rows, columns, score, label=""):
    full = np.zeros((60, 80), np.bool_)
    full[slice(*rows), slice(*columns)] = True
    box, counts = encode_full(full)
    return InstanceMask(
        number, box, int(full.sum()), score, 1.0, (0.0, 0.0), 1.0, label, counts, score
    )


TABLE = mask(1, (10, 60), (0, 80), 0.6, "table")
MUG = mask(2, (20, 40), (30, 50), 0.9, "mug")
HANDLE = mask(3, (25, 35), (45, 50), 0.5)
OTHER_MUG = mask(4, (0, 8), (0, 20), 0.8, "mug")
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
    hollow = np.ones((60, 80), np.bool_)
    hollow[20:40, 20:40] = False
    box, counts = encode_full(hollow)
    ring = replace(TABLE, bbox=box, counts=counts)
    with pytest.raises(InputError, match="is at 30, 30"):
        choose([ring], Criteria(point=(30.0, 30.0)))
