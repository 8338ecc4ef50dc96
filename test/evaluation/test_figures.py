"""Panoptic quality, boundary IoU, flicker and calibration by hand; and a whole image's figures."""

import numpy as np
import pytest

from aopsam_ros.evaluation.coco_metrics import COCO_FIGURES
from aopsam_ros.evaluation.figures import SHARES, mean_figures, measure
from aopsam_ros.evaluation.metrics import (
    boundary_iou,
    expected_calibration_error,
    iou_matrix,
    mean_boundary_iou,
    reliability,
)
from aopsam_ros.evaluation.panoptic import count_panoptic, mostly_unlabelled, panoptic_quality
from aopsam_ros.masks.iou import crop_of
from aopsam_ros.results import Prompt, PromptState
from aopsam_ros.streaming.flicker import flicker
from support.drawn_masks import SIZE, rectangle, segmentation_of


def crops(*masks):
    return [crop_of(mask) for mask in masks]


def counts_of(matched=0, matched_iou=0.0, false_positives=0, missed=0):
    found = {"matched": matched, "matched_iou": pytest.approx(matched_iou)}
    return found | {"false_positives": false_positives, "missed": missed}


def test_panoptic_quality_by_hand():
    labelled = [rectangle(0, 10, 0, 10), rectangle(0, 10, 20, 30), rectangle(20, 30, 0, 10)]
    found = [
        rectangle(0, 10, 0, 8),  # IoU 0.8 with the first
        rectangle(0, 10, 0, 6),  # 0.6 with the first, which has a better partner: an error
        rectangle(0, 10, 20, 25),  # 0.5 with the second: no match, and an error
        rectangle(20, 30, 1, 10),  # 0.9 with the third
        rectangle(12, 30, 20, 40),  # on unlabelled pixels alone: no error
    ]
    iou = iou_matrix(segmentation_of(found), labelled)
    unlabelled = mostly_unlabelled(crops(*found), labelled)
    assert unlabelled.tolist() == [False] * 4 + [True]
    counts = count_panoptic(iou, unlabelled)
    assert counts == counts_of(2, 1.7, false_positives=2, missed=1)
    rq = 2 / (2 + 2 / 2 + 1 / 2)
    assert panoptic_quality(**counts) == pytest.approx({"sq": 0.85, "rq": rq, "pq": 1.7 / 3.5})


@pytest.mark.parametrize(("right", "is_out"), [(15, False), (20, False), (21, True)])
def test_a_mask_is_no_error_if_more_than_half_of_it_is_unlabelled(right, is_out):
    labelled = [rectangle(0, 10, 0, 5), rectangle(0, 10, 5, 10)]
    found = mostly_unlabelled(crops(rectangle(0, 10, 0, right)), labelled)
    assert found.tolist() == [is_out]


def test_boundary_iou_by_hand():
    # Rings one pixel wide: 2 x 10 + 2 x 8 = 36 pixels each. Shifted by 2 columns, they share 8 in
    # the first row and 8 in the last, and none of the columns.
    first, shifted = crops(rectangle(0, 10, 0, 10), rectangle(0, 10, 2, 12))
    assert boundary_iou(first, first, 1) == 1
    assert boundary_iou(first, shifted, 1) == pytest.approx(16 / (36 + 36 - 16))
    # A region wider than the mask is the mask.
    assert boundary_iou(first, shifted, 5) == pytest.approx(80 / 120)
    assert boundary_iou(*crops(rectangle(0, 5, 0, 5), rectangle(20, 25, 20, 25)), 2) == 0
    # Both have 40 pixels along the outside, and the ring 8 around its hole.
    solid = rectangle(0, 11, 0, 11)
    ring = solid & ~rectangle(5, 6, 5, 6)
    assert boundary_iou(*crops(ring, solid), 1) == pytest.approx(40 / 48)


def test_mean_boundary_iou_counts_the_unmatched_as_zero():
    labelled = crops(rectangle(0, 10, 0, 10), rectangle(15, 25, 0, 10))
    found = crops(rectangle(0, 10, 0, 10))
    assert mean_boundary_iou(found, labelled, np.array([[1.0, 0.0]]), SIZE) == 0.5


def test_flicker_by_hand():
    before = crops(rectangle(0, 10, 0, 10), rectangle(15, 25, 10, 20), rectangle(0, 10, 32, 40))
    # The camera turned: everything moved right by 5. The first mask is found again, the second
    # only by 40 of its 100 pixels, the third has left the view by 5 of its 8 columns.
    after = crops(rectangle(0, 10, 5, 15), rectangle(15, 19, 15, 25))
    assert flicker(before, after, (5.2, 0.0), SIZE) == pytest.approx(1 / 2)
    # Taken as standing still, the first has an IoU of 50 / 150 and the third counts.
    assert flicker(before, after, (0.0, 0.0), SIZE) == 1
    assert flicker(before, before, (0.0, 0.0), SIZE) == 0
    assert flicker(before, [], (0.0, 0.0), SIZE) == 1
    assert flicker([], after, (0.0, 0.0), SIZE) is None
    assert flicker(before, after, (-100.0, 0.0), SIZE) is None


def test_calibration_by_hand():
    bins = reliability([0.95, 1.0, 0.1, 0.19, 0.12], [0.7, 0.9, 0.1, 0.3, 0.2])
    assert bins[0] == pytest.approx({"score": 0.41 / 3, "iou": 0.2, "masks": 3})
    assert bins[1] == pytest.approx({"score": 0.975, "iou": 0.8, "masks": 2})
    error = expected_calibration_error(bins)
    assert error == pytest.approx(3 / 5 * abs(0.41 / 3 - 0.2) + 2 / 5 * 0.175)
    assert expected_calibration_error(reliability([], [])) is None


def test_an_images_figures_by_hand():
    labelled = [rectangle(0, 10, 0, 10), rectangle(20, 30, 20, 40)]
    # IoU with the first: 60 / 100; with the second: 200 / 200; the third meets none.
    found = [rectangle(0, 10, 0, 6), rectangle(20, 30, 20, 40), rectangle(0, 5, 30, 40)]
    states = ["KEPT", "KEPT", "ELIMINATED", "REJECTED", "KEPT", "UNUSED", "ELIMINATED"]
    prompts = tuple(Prompt(1, 1, 0.5, PromptState[state]) for state in states)
    stages = {"preprocess": 1, "encoder": 20, "predictor": 3, "sampling": 4, "decoder": 50}
    timings = stages | {"filtering": 5, "postprocess": 6, "total": 90}
    segmentation = segmentation_of(found, [0.7, 0.9, 0.8], prompts, 4, timings)
    # Rings one pixel wide, of 28 and 36 pixels, share three sides of 6 + 6 + 8 pixels.
    boundary = 20 / (28 + 36 - 20)
    assert measure(segmentation, labelled, flicker=0.25) == {
        **counts_of(2, 1.6),
        "one_to_one": pytest.approx((0.6 + 1.0) / 2),
        "boundary_iou": pytest.approx((boundary + 1.0) / 2),
        "closest": pytest.approx((0.6 + 1.0 + 0.0) / 3),
        "coverage_50": 1.0,
        "coverage_75": 0.5,
        "near_copies": 0.0,
        "masks": 3,
        "prompts": 7,
        "kept": 3,
        "eliminated": 2,
        "prompts_decoded": 4,
        "prompt_ms": 12,
        "total_ms": 90,
        "scores": [0.7, 0.9, 0.8],
        "ious": [pytest.approx(0.6), 1.0, 0.0],
        "unlabelled": [False, False, True],
        "flicker": 0.25,
    }


def test_an_image_without_masks_has_figures():
    timings = dict.fromkeys(("predictor", "sampling", "filtering", "total"), 1.0)
    figures = measure(segmentation_of([], timings=timings), [rectangle(0, 10, 0, 10)])
    assert counts_of(missed=1).items() <= figures.items()
    assert (figures["one_to_one"], figures["boundary_iou"], figures["scores"]) == (0, 0, [])
    means = mean_figures([figures])
    assert [means[name] for name in ("pq", "sq", "rq", "eliminated")] == [0] * 4


def image(value, prompts, eliminated, ms, **changes):
    shares = {name: value / divisor for divisor, name in enumerate(SHARES, start=1)}
    matching = {"matched": 1, "matched_iou": value, "false_positives": 1, "missed": 0}
    counts = {"masks": 10 * prompts, "prompts": prompts, "kept": prompts - eliminated}
    counts |= {"eliminated": eliminated, "prompts_decoded": 2 * prompts}
    masks = {"scores": [], "ious": [], "unlabelled": [], "flicker": None}
    times = {"prompt_ms": ms, "total_ms": 10 * ms}
    return {**matching, **shares, **counts, **masks, **times, **changes}


def test_means_by_hand():
    scored = [{"scores": [0.5, 0.9], "ious": [0.4, 0.0], "unlabelled": [False, True]}]
    scored += [{"scores": [0.95], "ious": [0.95], "unlabelled": [False]}]
    means = mean_figures(
        [
            image(0.2, 4, 1, 10.0, **scored[0]),
            image(0.4, 6, 0, 30.0, **scored[1], flicker=0.2),
            image(0.9, 10, 4, 20.0, flicker=0.4),
        ],
        detector_ms=100.0,
    )
    bins = means.pop("reliability")
    assert [one["masks"] for one in bins] == [1, 1]  # the third lies on unlabelled pixels
    assert means == pytest.approx(
        {
            "images": 3,
            **{"pq": 0.5 * 3 / 4.5, "sq": 0.5, "rq": 3 / 4.5},
            **dict.fromkeys(COCO_FIGURES),  # no masks were given
            **{name: 0.5 / divisor for divisor, name in enumerate(SHARES, start=1)},
            "flicker": 0.3,  # of the two frames that had one before
            "calibration_error": 0.05,
            "masks": 200 / 3,
            "prompts": 20 / 3,
            "kept": 5,
            "prompts_decoded": 40 / 3,
            "eliminated": 5 / 20,  # of all prompts, not a mean of shares
            # Medians with the detector's time; and 95 % of the way from the first to the last of
            # three, which is nine tenths from the second to the third.
            **{"prompt_ms": 120, "prompt_ms_p95": 129, "total_ms": 300, "total_ms_p95": 390},
        }
    )
