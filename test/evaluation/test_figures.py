"""Panoptic quality, boundary IoU, flicker and calibration by hand; and a whole image's figures."""

import numpy as np
import pytest

from aopsam_ros.evaluation.boundary import boundary_iou, boundary_width, mean_boundary_iou
from aopsam_ros.evaluation.calibration import ScoreBin, expected_calibration_error, reliability
from aopsam_ros.evaluation.coco_metrics import RECALLS, CocoFigures
from aopsam_ros.evaluation.figures import ImageFigures, mean_figures, measure
from aopsam_ros.evaluation.flicker import flicker
from aopsam_ros.evaluation.metrics import crop_of, iou_matrix
from aopsam_ros.evaluation.panoptic import PanopticCounts, count_panoptic, mostly_unlabelled
from aopsam_ros.results import Prompt, PromptState
from support.drawn_masks import SIZE, rectangle, segmentation_of


def crops(*masks):
    return [crop_of(mask) for mask in masks]


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
    assert counts == PanopticCounts(2, pytest.approx(1.7), false_positives=2, missed=1)
    assert counts.segmentation_quality == pytest.approx(0.85)
    assert counts.recognition_quality == pytest.approx(2 / (2 + 2 / 2 + 1 / 2))
    assert counts.panoptic_quality == pytest.approx(1.7 / 3.5)


@pytest.mark.parametrize(("right", "is_out"), [(15, False), (20, False), (21, True)])
def test_a_mask_is_no_error_if_more_than_half_of_it_is_unlabelled(right, is_out):
    labelled = [rectangle(0, 10, 0, 5), rectangle(0, 10, 5, 10)]
    found = mostly_unlabelled(crops(rectangle(0, 10, 0, right)), labelled)
    assert found.tolist() == [is_out]


def test_panoptic_quality_without_any_match_is_zero():
    assert PanopticCounts().panoptic_quality == 0
    nothing = count_panoptic(np.zeros((0, 2)), np.zeros(0, bool))
    assert nothing == PanopticCounts(missed=2) and nothing.panoptic_quality == 0


def test_counts_of_images_add_up():
    total = PanopticCounts(2, 1.7, 2, 1) + PanopticCounts(1, 0.6, 0, 3)
    assert total == PanopticCounts(3, pytest.approx(2.3), 2, 4)


def test_boundary_iou_by_hand():
    # Rings one pixel wide: 2 x 10 + 2 x 8 = 36 pixels each. Shifted by 2 columns, they share 8 in
    # the first row and 8 in the last, and none of the columns.
    first, shifted = crops(rectangle(0, 10, 0, 10), rectangle(0, 10, 2, 12))
    assert boundary_iou(first, first, 1) == 1
    assert boundary_iou(first, shifted, 1) == pytest.approx(16 / (36 + 36 - 16))
    # A region wider than the mask is the mask.
    assert boundary_iou(first, shifted, 5) == pytest.approx(80 / 120)
    assert boundary_iou(*crops(rectangle(0, 5, 0, 5), rectangle(20, 25, 20, 25)), 2) == 0


def test_a_hole_has_a_boundary_too():
    ring = rectangle(0, 11, 0, 11) & ~rectangle(5, 6, 5, 6)
    solid = rectangle(0, 11, 0, 11)
    # Both have 40 pixels along the outside, and the ring 8 around its hole.
    assert boundary_iou(*crops(ring, solid), 1) == pytest.approx(40 / 48)


def test_mean_boundary_iou_counts_the_unmatched_as_zero():
    assert boundary_width(480, 640) == 16
    labelled = crops(rectangle(0, 10, 0, 10), rectangle(15, 25, 0, 10))
    found = crops(rectangle(0, 10, 0, 10))
    assert boundary_width(*SIZE) == 1
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
    assert bins == (
        ScoreBin(pytest.approx(0.41 / 3), pytest.approx(0.2), 3),
        ScoreBin(pytest.approx(0.975), pytest.approx(0.8), 2),
    )
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
    assert measure(segmentation, labelled, flicker=0.25) == ImageFigures(
        panoptic=PanopticCounts(2, pytest.approx(1.6), false_positives=0, missed=0),
        one_to_one=pytest.approx((0.6 + 1.0) / 2),
        boundary_iou=pytest.approx((boundary + 1.0) / 2),
        closest=pytest.approx((0.6 + 1.0 + 0.0) / 3),
        coverage_50=1.0,
        coverage_75=0.5,
        near_copies=0.0,
        masks=3,
        prompts=7,
        kept=3,
        eliminated=2,
        prompts_decoded=4,
        prompt_ms=12,
        total_ms=90,
        scores=(0.7, 0.9),
        ious=(pytest.approx(0.6), 1.0),
        flicker=0.25,
    )


def test_an_image_without_masks_has_figures():
    timings = dict.fromkeys(("predictor", "sampling", "filtering", "total"), 1.0)
    figures = measure(segmentation_of([], timings=timings), [rectangle(0, 10, 0, 10)])
    assert figures.panoptic == PanopticCounts(missed=1)
    assert (figures.one_to_one, figures.boundary_iou, figures.scores) == (0, 0, ())


def image(value, prompts, eliminated, ms, **changes):
    whole = {"masks": 10 * prompts, "prompts": prompts, "kept": prompts - eliminated}
    means = ("one_to_one", "boundary_iou", "closest", "coverage_50", "coverage_75", "near_copies")
    return ImageFigures(
        PanopticCounts(1, value, 1, 0),
        **{name: value / divisor for divisor, name in enumerate(means, start=1)},
        **whole,
        eliminated=eliminated,
        prompts_decoded=2 * prompts,
        prompt_ms=ms,
        total_ms=10 * ms,
        **changes,
    )


def test_means_by_hand():
    images = [
        image(0.2, 4, 1, 10.0, scores=(0.5,), ious=(0.4,)),
        image(0.4, 6, 0, 30.0, scores=(0.95,), ious=(0.95,), flicker=0.2),
        image(0.9, 10, 4, 20.0, flicker=0.4),
    ]
    coco = CocoFigures({**dict.fromkeys(RECALLS, 0.6), "ar_100": 0.5}, 0.7)
    means = mean_figures(images, detector_ms=100.0, coco=coco)
    assert (means.images, means.one_to_one) == (3, pytest.approx(0.5))
    assert (means.boundary_iou, means.closest) == (pytest.approx(0.25), pytest.approx(0.5 / 3))
    assert (means.coverage_50, means.coverage_75) == (pytest.approx(0.125), pytest.approx(0.1))
    assert means.sq == pytest.approx(0.5) and means.rq == pytest.approx(3 / 4.5)
    assert means.pq == pytest.approx(0.5 * 3 / 4.5)
    assert means.flicker == pytest.approx(0.3)  # of the two frames that had one before
    assert means.calibration_error == pytest.approx(0.05)
    assert means.prompts == pytest.approx(20 / 3) and means.masks == pytest.approx(200 / 3)
    assert means.prompts_decoded == pytest.approx(40 / 3) and means.kept == pytest.approx(5)
    assert means.eliminated == pytest.approx(5 / 20)  # of all prompts, not a mean of shares
    assert (means.prompt_ms, means.total_ms) == (120.0, 300.0)  # medians, with the detector's time
    # 95 % of the way from the first to the last of three: nine tenths from the second to the third.
    assert (means.prompt_ms_p95, means.total_ms_p95) == (pytest.approx(129), pytest.approx(390))
    assert (means.recall["ar_100"], means.average_precision) == (0.5, 0.7)
    assert mean_figures([image(1.0, 0, 0, 1.0)]).eliminated == 0
