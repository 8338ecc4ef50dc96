"""Prompts made from the ground truth, and the figures of a model that is prompted with them."""

import numpy as np
import pytest

from aopsam_ros.data.datasets import open_dataset
from aopsam_ros.engines.base import DecodedOnHost, all_logits
from aopsam_ros.errors import OptionError
from aopsam_ros.evaluation.ground_truth_prompts import (
    corrected,
    evaluate_prompts,
    first_prompt,
    mean_prompted,
    parse_kind,
)
from aopsam_ros.evaluation.images import read_image
from aopsam_ros.masks.iou import crop_of
from aopsam_ros.segmentation.segmenter import Segmenter
from support.drawn_masks import rectangle

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def image(data):
    return read_image(open_dataset(data[0]), 0)


def test_kinds_are_read():
    assert parse_kind("box") == ("box", 0) and parse_kind("clicks:3") == ("clicks", 3)
    too_many = "clicks:101", f"clicks:{10**11}", "clicks:" + 5000 * "1"
    for wrong in ("", "clicks", "clicks:-1", "clicks:x", "centre:2", "boxes", *too_many):
        with pytest.raises(OptionError, match=r"box or clicks:N, N at most 100, not '.{,40}'"):
            parse_kind(wrong)


def test_the_centre_is_the_innermost_pixel_and_a_box_is_tight():
    mask = rectangle(3, 14, 5, 24) | rectangle(10, 12, 24, 40)
    ((x, y),), _ = first_prompt(mask, "centre", RNG)
    assert y == 8 and 10 <= x <= 18
    corners, labels = first_prompt(mask, "box", RNG)
    assert corners.tolist() == [[5, 3], [40, 14]] and labels.tolist() == [2, 3]
    corner = rectangle(0, 11, 0, 11)  # the image's border is outside, too
    assert first_prompt(corner, "centre", RNG)[0].tolist() == [[5, 5]]


FIRST = np.array([[5.0, 5.0]]), np.array([1.0])


@pytest.mark.parametrize(
    ("found", "point", "label"),
    [
        (rectangle(0, 20, 0, 13), (16, 10), 1),  # 7 columns are missing
        (rectangle(0, 20, 0, 31), (25, 10), 0),  # 11 columns too many
        (rectangle(0, 20, 5, 29), (24, 10), 0),  # 5 columns missing, 9 too many: the larger region
        (rectangle(0, 20, 0, 20), (0, 0), -1),  # nothing is wrong
    ],
)
def test_a_click_corrects_the_largest_error(found, point, label):
    coords, labels = corrected(FIRST, rectangle(0, 20, 0, 20), crop_of(found))
    assert labels.tolist() == [1, label] and coords[0].tolist() == [5, 5]
    x, y = coords[1]
    assert x == point[0] and abs(y - point[1]) <= (8 if label >= 0 else 0)


def test_a_click_after_one_that_had_nothing_to_correct_comes_before_the_padding():
    labelled = rectangle(0, 20, 0, 20)
    before = corrected(FIRST, labelled, crop_of(labelled))
    assert before[1].tolist() == [1, -1]
    coords, labels = corrected(before, labelled, crop_of(rectangle(0, 20, 0, 12)))
    assert labels.tolist() == [1, 1, -1] and coords[[0, 2]].tolist() == [[5, 5], [0, 0]]
    assert coords[1, 0] > 12


def test_the_largest_error_is_one_region_not_a_sum_of_many():
    labelled = rectangle(0, 30, 0, 20)
    specks = np.zeros_like(labelled)
    specks[::2, 30::2] = True  # 75 single pixels
    found = (labelled & ~rectangle(10, 15, 5, 10)) | specks
    coords, labels = corrected(FIRST, labelled, crop_of(found))
    assert coords[1].tolist() == [7, 12] and labels[1] == 1


@pytest.mark.parametrize("kind", ["centre", "box", "clicks:2"])
def test_a_model_that_finds_its_objects_has_good_figures(tiny, image, kind):
    figures = evaluate_prompts(tiny, image, kind, RNG)
    assert figures["instances"] == 3
    assert figures["best"] >= figures["chosen"] > 0.9
    assert len(figures["after_click"]) == (3 if kind == "clicks:2" else 0)
    assert figures["after_click"][:1] in ([], [figures["chosen"]])


class Recording:
    """An engine that gives SAM's single mask, the whole image, and notes the masks it is given."""

    num_masks = 4
    accepts_mask_input = True

    def __init__(self, engine):
        self.engine, self.mask_inputs = engine, []

    def __getattr__(self, name):
        return getattr(self.engine, name)

    def decode(self, handle, coords, labels, mask_input=None):
        self.mask_inputs.append(mask_input)
        decoded = self.engine.decode(handle, coords, labels)
        logits, iou = all_logits(decoded), decoded.predicted_iou
        logits = np.concatenate([np.ones_like(logits[:, :1]), logits], 1)
        return DecodedOnHost(logits, np.concatenate([np.ones_like(iou[:, :1]), iou], 1))


@pytest.mark.parametrize(("kind", "is_single"), [("centre", False), ("box", True)])
def test_the_single_mask_answers_a_box_not_a_point(tiny, image, kind, is_single):
    segmenter = Segmenter(tiny.bundle, Recording(tiny.engine))
    figures = evaluate_prompts(segmenter, image, kind, RNG)
    assert figures["best"] > 0.9  # of the three alternatives
    assert (figures["chosen"] < 0.3) == is_single


def test_a_further_click_begins_with_the_mask_before(tiny, image):
    engine = Recording(tiny.engine)
    evaluate_prompts(Segmenter(tiny.bundle, engine), image, "clicks:2", RNG)
    first, second, third = engine.mask_inputs
    assert first is None and second.shape[:2] == third.shape[:2] == (3, 1)
    # Two need no correction: their masks stay, though the single one claims to be better.
    np.testing.assert_array_equal(third[:2] > 0, second[:2] > 0)


def test_every_image_counts_once():
    names = "best", "chosen", "instances", "after_click"
    images = [(0.8, 0.6, 9, [0.6, 0.7]), (0.4, 0.4, 1, [0.4, 0.9])]
    mean = mean_prompted([dict(zip(names, image, strict=True)) for image in images])
    assert mean.pop("after_click") == pytest.approx([0.5, 0.8])
    assert mean == pytest.approx({"best": 0.6, "chosen": 0.5, "instances": 10})
