"""Boxes of prompts, and prompts whose boxes agree."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aopsam_ros.geometry import FrameGeometry, paired_iou, resized_geometry
from aopsam_ros.options import SegmenterOptions
from aopsam_ros.prompting.confidence_map_sampling import boxes_at, find_duplicates
from aopsam_ros.prompting.prompts import FrameInput
from aopsam_ros.prompting.sources import make_source
from aopsam_ros.segmentation.decoding_loop import as_decoder_input

SQUARE = resized_geometry(64, 64, 64)


def test_a_box_reaches_as_far_as_the_map_says():
    extents = np.zeros((4, 8, 8), np.float32)
    extents[:, 2, 5] = 0.25, 0.125, 0.25, 0.0625  # of a square of 64 pixels
    x, y = 5.5 * 8, 2.5 * 8
    boxes = boxes_at(np.array([[2, 5]]), extents, SQUARE)
    assert boxes.tolist() == [[x - 16, y - 8, x + 16, y + 4]]


def test_boxes_are_source_pixels_and_end_at_the_image():
    wide = FrameGeometry(height=100, width=200, valid_height=32, valid_width=64, image_size=64)
    extents = np.full((4, 8, 8), 0.25, np.float32)
    (box,) = boxes_at(np.array([[3, 0]]), extents, wide).tolist()  # centre (4, 28) of 64 x 32
    assert box == pytest.approx([0, 12 / 0.32, 20 / 0.32, 100])


def test_a_box_is_never_empty():
    boxes = boxes_at(np.array([[0, 0], [7, 7]]), np.zeros((4, 8, 8), np.float32), SQUARE)
    assert (boxes[:, 2:] - boxes[:, :2] >= 1).all()


@pytest.mark.parametrize(
    ("other", "expected"),
    [([0, 0, 4, 4], 1.0), ([2, 0, 6, 4], 8 / 24), ([4, 0, 8, 4], 0.0), ([1, 1, 1, 1], 0.0)],
)
def test_iou_of_boxes(other, expected):
    found = paired_iou(np.array([[0.0, 0, 4, 4]]), np.array([other], float))
    assert found.item() == pytest.approx(expected)


def test_of_boxes_that_agree_the_first_is_kept():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10], [0, 1, 10, 10]], float)
    assert find_duplicates(boxes, 0.6).tolist() == [False, True, False, True]
    assert find_duplicates(boxes, 0.6, num_protected=2).tolist() == [False, False, False, True]
    assert find_duplicates(np.zeros((0, 4)), 0.5).tolist() == []


def test_a_dropped_box_drops_no_other():
    boxes = np.array([[0, 0, 10, 10], [3, 0, 13, 10], [6, 0, 16, 10]], float)  # IoU .54, .25
    assert find_duplicates(boxes, 0.5).tolist() == [False, True, False]


@given(st.integers(0, 200), st.integers(0, 5), st.integers(0, 1000))
def test_any_number_of_boxes_is_compared_with_all_before(count, num_protected, seed):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 20, (count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 20, (count, 2))], axis=1)
    kept, expected = [], []
    for index, box in enumerate(boxes):
        overlaps = [paired_iou(box[None], boxes[other][None]).item() > 0.5 for other in kept]
        expected.append(index >= num_protected and any(overlaps))
        if not expected[-1]:
            kept.append(index)
    assert find_duplicates(boxes, 0.5, num_protected).tolist() == expected


@pytest.mark.parametrize(("form", "labels"), [("point", [1]), ("box", [2, 3]), ("both", [1, 2, 3])])
def test_prompts_carry_boxes_and_those_that_agree_are_eliminated(form, labels):
    """Two peaks whose extents both mean the whole image, and a third of its own."""
    confidence, extents = np.zeros((32, 32), np.float32), np.zeros((4, 32, 32), np.float32)
    for row, column, value in ((8, 8, 0.9), (8, 24, 0.8), (24, 8, 0.7)):
        confidence[row, column] = value
        x, y = (column + 0.5) / 32, (row + 0.5) / 32
        extents[:, row, column] = (x, y, 1 - x, 1 - y) if row == 8 else (0.1, 0.1, 0.1, 0.1)
    options = SegmenterOptions().updated(
        {"asf.smoothing_sigma": 0, "asf.prompt_form": form, "asf.confidence_threshold": 0.5}
    )
    frame = FrameInput(SQUARE, options, confidence, extents)
    prompts = make_source("predictor").propose(frame)
    assert prompts.duplicate.tolist() == [False, True, False]
    coords, kinds = as_decoder_input(prompts, np.array([0, 2]))
    assert kinds.tolist() == [labels] * 2
    assert coords.shape == (2, len(labels), 2)
    if form != "point":
        assert coords[0, -2:].tolist() == [[0, 0], [64, 64]]
    points = make_source("predictor").propose(
        FrameInput(SQUARE, options.updated({"asf.prompts": "points"}), confidence, extents)
    )
    assert points.boxes is None and len(points.points) == 3
