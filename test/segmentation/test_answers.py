"""Which mask answers a prompt, and what a further click changes."""

import numpy as np
import pytest

from aopsam_ros.geometry import FrameGeometry
from aopsam_ros.segmentation.answers import (
    agreement_with,
    best_answer,
    clicks_met,
    merge_changes,
)

SQUARE = FrameGeometry(128, 128, 128, 128, 128)


def test_the_mask_that_meets_most_clicks_answers():
    logits = np.full((4, 64, 64), -1.0, np.float32)
    logits[0, :, :32] = logits[1, :32] = logits[2] = 1.0
    points = np.array([[20.0, 20.0], [20.0, 100.0], [100.0, 20.0]])
    met = clicks_met(logits, points, np.array([1, 0, 1]), SQUARE)
    assert met.tolist() == [1, 3, 2, 1]
    iou_of = np.array([0.9, 0.5, 0.8, 0.99], np.float32)
    assert best_answer(iou_of, met, is_ambiguous=False) == 1
    assert best_answer(iou_of, np.array([3, 3, 3, 3]), is_ambiguous=False) == 0  # SAM's single
    assert best_answer(iou_of, np.array([1, 1, 1, 1]), is_ambiguous=True) == 3
    assert best_answer(iou_of[1:], np.array([0, 0, 0]), is_ambiguous=False) == 2


def test_of_masks_that_meet_all_clicks_the_one_like_the_mask_before_answers():
    before = np.full((64, 64), -1.0, np.float32)
    before[:, :32] = 1.0
    logits = np.full((3, 64, 64), -1.0, np.float32)
    logits[0, :, :16] = logits[1, :, :32] = logits[2] = 1.0
    agreement = agreement_with(before, logits)
    assert agreement.tolist() == [0.5, 1.0, 0.5]
    iou_of, met = np.array([0.7, 0.6, 0.9], np.float32), np.array([2, 2, 2])
    assert best_answer(iou_of, met, False) == 2
    assert best_answer(iou_of, met, False, agreement) == 1
    assert best_answer(iou_of, np.array([2, 1, 2]), False, agreement) == 2  # clicks come first


def masks_of(*boxes):
    """Logits [64, 64] of a mask that fills boxes of cells, left to right and top to bottom."""
    logits = np.full((64, 64), -1.0, np.float32)
    for x0, x1, y0, y1 in boxes:
        logits[y0:y1, x0:x1] = 1.0
    return logits


LEFT, RIGHT, FAR = (4, 20, 4, 20), (20, 30, 4, 20), (40, 60, 40, 60)


@pytest.mark.parametrize(
    ("point", "label", "before", "after", "merged"),
    [
        ((50, 20), 1, [LEFT], [LEFT, RIGHT, FAR], [LEFT, RIGHT]),  # adds what is clicked, no more
        ((50, 20), 0, [LEFT, RIGHT, FAR], [LEFT], [LEFT, FAR]),  # takes away likewise
        ((62, 20), 1, [LEFT], [LEFT, RIGHT, FAR], [LEFT, RIGHT]),  # just beside the change
        ((20, 20), 1, [LEFT], [LEFT, FAR], [LEFT, FAR]),  # it was met: nothing is asked for
        ((80, 20), 1, [LEFT], [LEFT, FAR], [LEFT, FAR]),  # the change lies elsewhere
        ((50, 20), 2, [LEFT], [LEFT, FAR], [LEFT, FAR]),  # a box's corner is no click
    ],
)
def test_a_click_changes_the_mask_where_it_is_and_nowhere_else(point, label, before, after, merged):
    points, labels = np.array([[20.0, 20.0], point]), np.array([1, label])
    found = merge_changes(masks_of(*before), masks_of(*after), points, labels, SQUARE)
    assert np.array_equal(found, masks_of(*merged))
