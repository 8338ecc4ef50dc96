"""Masks of one label are united where they show one thing, and parts stay below it."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from aopsam_ros.labels.composing import affinity, compose
from aopsam_ros.masks.rle import decode_full
from aopsam_ros.results import Segmentation
from support.drawn_masks import instance_of, rectangle

SIZE = 60, 100


def area(left, top, right, bottom):
    return rectangle(top, bottom, left, right, SIZE)


def segmentation(*named, parents=(), scores=(0.1, 0.2, 0.3, 0.4)):
    """Masks in the order given, which has to be that of their areas; ids 1, 2, ..."""
    masks = []
    for number, (label, mask) in enumerate(named, start=1):
        parent = dict(parents).get(number, 0)
        links = {"parent": parent, "level": int(parent > 0)}
        score = scores[number - 1]
        links["prompt"] = (float(number), 0.0)
        masks.append(instance_of(mask, number, label=label, score=score, label_score=0.8, **links))
    return Segmentation(*SIZE, tuple(masks), (), 0, {}, None, "nano", "predictor")


def labels_of(found):
    return [mask.label for mask in found.masks]


def test_touching_halves_of_one_thing_become_one_with_both_as_parts():
    left, right = area(10, 10, 30, 40), area(30, 10, 45, 40)
    found = compose(segmentation(("mug", left), ("mug", right)))
    assert labels_of(found) == ["mug", "", ""]
    whole, *parts = found.masks
    np.testing.assert_array_equal(decode_full(whole, *SIZE), left | right)
    assert (whole.id, whole.parent, whole.level, whole.area) == (1, 0, 0, int((left | right).sum()))
    assert [(part.id, part.parent, part.level) for part in parts] == [(2, 1, 1), (3, 1, 1)]
    np.testing.assert_array_equal(decode_full(parts[1], *SIZE), right)
    assert whole.score == pytest.approx(0.2)  # of the best
    assert (whole.prompt, whole.merged_prompts) == ((2.0, 0.0), ((1.0, 0.0), (2.0, 0.0)))


def test_sure_masks_that_touch_are_united_where_that_is_wanted():
    halves = ("mug", area(10, 10, 30, 40)), ("mug", area(30, 10, 45, 40))
    beside = ("mug", area(50, 10, 60, 30))
    sure = segmentation(*halves, beside, scores=(0.7, 0.6, 0.7))
    assert labels_of(compose(sure)) == ["mug", "mug", "mug"]
    found = compose(sure, least_affinity=0.2)
    assert labels_of(found) == ["mug", "", "", "mug"]
    np.testing.assert_array_equal(decode_full(found.masks[0], *SIZE), halves[0][1] | halves[1][1])


def test_what_lies_in_a_thing_is_its_part_and_no_new_mask_is_made():
    whole, part = area(10, 10, 50, 50), area(12, 12, 20, 20)
    found = compose(segmentation(("mug", whole), ("mug", part), parents=[(2, 1)]))
    assert labels_of(found) == ["mug", ""]
    assert [mask.parent for mask in found.masks] == [0, 1]


@pytest.mark.parametrize(
    ("first", "second", "score"),
    [
        (("mug", area(10, 10, 30, 40)), ("bowl", area(30, 10, 45, 40)), 0.1),  # another label
        (("mug", area(10, 10, 30, 40)), ("mug", area(50, 10, 65, 40)), 0.1),  # apart
        (("mug", area(10, 10, 30, 40)), ("mug", area(30, 10, 45, 40)), 0.8),  # two sure things
        (("", area(10, 10, 30, 40)), ("", area(12, 12, 20, 20)), 0.1),  # unknown
    ],
)
def test_different_things_stay_apart(first, second, score):
    before = segmentation(first, second, scores=[score] * 2)
    assert compose(before) is before


def test_affinity_is_the_fitted_probability():
    """Of 20 x 30 cells and 15 x 30 beside them, whose outline has 94; and of both with the same."""
    cells = np.array([area(10, 10, 30, 40), area(30, 10, 45, 40), area(10, 10, 30, 40)], np.uint8)
    found = affinity(cells, np.array([0.5, 0.9, 0.7], np.float32))

    def probability(iou, touch, score):
        return 1 / (1 + np.exp(-(5.64 * iou + 1.70 * touch - 4.29 * score + 2.05)))

    wanted = [probability(0, 30 / 94, 0.5), probability(1, 0, 0.5), probability(0, 30 / 94, 0.7)]
    np.testing.assert_allclose(found[[0, 0, 1], [1, 2, 2]], wanted, rtol=1e-5)
    np.testing.assert_array_equal(found, found.T)


def test_hundreds_of_masks_take_no_hundreds_of_megabytes():
    rng, cells = np.random.default_rng(0), np.zeros((256, 192, 256), np.uint8)
    for own, (row, column) in zip(cells, rng.integers(0, 160, (256, 2)), strict=True):
        own[row : row + 20, column : column + 20] = 1
    tracemalloc.start()
    affinity(cells, np.ones(256, np.float32))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64e6


@pytest.mark.parametrize(
    ("depths", "pieces"),
    [
        ([1.0, 1.15], 1),
        ([1.0, 1.3], 2),  # one mug before another
        ([10.0, 11.5], 1),
        ([1.0, np.nan], 1),  # glass
        ([np.nan, np.nan], 1),
    ],
)
def test_masks_at_different_depths_stay_apart(depths, pieces):
    halves = segmentation(("mug", area(10, 10, 30, 40)), ("mug", area(30, 10, 45, 40)))
    found = compose(halves, np.array(depths, np.float32), 0.2)
    assert labels_of(found).count("mug") == pieces


def test_ids_and_parents_of_the_others_stay_linked():
    table, cup = ("", area(0, 0, 100, 60)), ("", area(32, 12, 36, 16))
    halves = ("mug", area(10, 10, 30, 40)), ("mug", area(30, 10, 45, 40))
    before = segmentation(table, *halves, cup, parents=[(2, 1), (3, 1), (4, 3)])
    found = compose(before)
    assert labels_of(found) == ["", "mug", "", "", ""]
    assert [mask.id for mask in found.masks] == [1, 2, 3, 4, 5]
    assert [mask.parent for mask in found.masks] == [0, 1, 2, 2, 4]
    assert [mask.level for mask in found.masks] == [0, 1, 2, 2, 3]
    areas = [mask.area for mask in found.masks]
    assert areas == sorted(areas, reverse=True)


def test_a_united_mask_lies_in_what_holds_all_of_its_parts():
    table, tray = ("", area(0, 0, 100, 60)), ("", area(8, 8, 31, 42))
    halves = ("mug", area(10, 10, 30, 40)), ("mug", area(30, 10, 45, 40))
    spot = ("mug", area(12, 12, 14, 14))
    masks = (table, tray, *halves, spot)
    parents = [(2, 1), (3, 2), (4, 1), (5, 3)]
    found = compose(segmentation(*masks, parents=parents, scores=(0.1,) * 5))
    assert labels_of(found) == ["", "mug", "", "", "", ""]
    assert [mask.parent for mask in found.masks] == [0, 1, 1, 2, 2, 2]
    assert [mask.level for mask in found.masks] == [0, 1, 1, 2, 2, 2]


def test_a_parent_that_is_smaller_by_a_pixel_is_no_part_of_its_own_part():
    """Which mask holds which is found at low resolution, where the second one was as large."""
    mask, smaller = area(10, 10, 40, 40), area(10, 10, 40, 40)
    smaller[10, 10] = False
    found = compose(segmentation(("mug", mask), ("mug", smaller), parents=[(1, 2)]))
    assert labels_of(found) == ["mug", ""]
    assert [(mask.id, mask.parent, mask.level) for mask in found.masks] == [(1, 0, 0), (2, 1, 1)]


def test_single_pixels_in_the_corners_of_large_images_are_compared():
    """Fewer cells than pixels: none falls between them or beyond the edge."""
    for height, width in ((335, 1000), (1, 3000), (2999, 517)):
        masks = []
        for number, (y, x) in enumerate(((0, 0), (height - 1, width - 1)), start=1):
            pixel = np.zeros((height, width), bool)
            pixel[y, x] = True
            masks.append(instance_of(pixel, number, label="mug", score=0.0, label_score=0.8))
        found = Segmentation(height, width, tuple(masks), (), 0, {}, None, "nano", "predictor")
        assert compose(found) is found
        pair = masks[1], replace(masks[1], id=1)
        twice = Segmentation(height, width, pair, (), 0, {}, None, "nano", "grid16")
        assert labels_of(compose(twice)).count("mug") == 1
