"""From decoded masks to instances: what ranks, what lies in what, and what is left of each."""

import numpy as np
import pytest

from aopsam_ros.geometry import resized_geometry
from aopsam_ros.masks.rle import decode_full
from aopsam_ros.masks.selection import LowResMasks
from aopsam_ros.options import MaskOptions
from aopsam_ros.prompting.prompts import PromptSet
from aopsam_ros.results import PromptState, Segmentation, Status
from aopsam_ros.segmentation.decoding_loop import DecodedPrompts
from aopsam_ros.segmentation.instances import build_instances
from aopsam_ros.streaming.hysteresis import Hysteresis

LOW, SIDE = 32, 128  # a cell of the masks is 4 x 4 pixels of the image
GEOMETRY = resized_geometry(SIDE, SIDE, 64)
WALL, WINDOW, PANE, CAR = (0, 20, 0, 24), (2, 16, 2, 16), (4, 10, 4, 10), (24, 30, 8, 28)


def instances(rectangles, scores=None, ious=None, holes=(), weak=(), **options):
    """Build instances of masks of these rectangles: top, bottom, left, right, in cells."""
    count = len(rectangles)
    logits = np.full((count, LOW, LOW), -4.0, np.float32)
    for mask, (top, bottom, left, right) in zip(logits, rectangles, strict=True):
        mask[top:bottom, left:right] = 4.0
    for mask, row, column in holes:
        logits[mask, row, column] = -4.0
    ones = np.ones(count, np.float32)
    score, iou = (ones if v is None else np.array(v, np.float32) for v in (scores, ious))
    prompt, candidate = np.arange(count), np.zeros(count, np.int64)
    strong = ~np.isin(prompt, weak)
    masks = LowResMasks(logits, iou, ones, score, prompt, candidate, strong)
    prompts = PromptSet(np.arange(2.0 * count).reshape(-1, 2), ones)
    states = np.full(count, PromptState.REJECTED, np.int64)
    decoded = DecodedPrompts(prompts, states, masks, count, Status.COMPLETE)
    return build_instances(decoded, GEOMETRY, MaskOptions(**options))


@pytest.mark.parametrize(
    ("options", "kept", "parents", "levels"),
    [
        # From the largest to the smallest: wall, window, car, pane.
        ({"granularity": "all"}, [2, 0, 1, 3], [0, 1, 0, 2], [0, 1, 0, 2]),
        ({"granularity": "objects"}, [2, 1], [0, 0], [0, 0]),
        ({"granularity": "parts"}, [1, 3], [0, 0], [0, 0]),
        ({"min_area": 16 * 36 + 1}, [2, 0, 1], [0, 1, 0], [0, 1, 0]),
        # Without the pane, which is too small, the window is innermost.
        ({"granularity": "parts", "min_area": 16 * 36 + 1}, [0, 1], [0, 0], [0, 0]),
    ],
)
def test_masks_say_what_they_lie_in(options, kept, parents, levels):
    found, prompts = instances([WINDOW, CAR, WALL, PANE], **options)
    assert prompts.tolist() == kept
    assert [mask.id for mask in found] == list(range(1, len(kept) + 1))
    assert ([mask.parent for mask in found], [mask.level for mask in found]) == (parents, levels)
    areas = [mask.area for mask in found]
    assert areas == sorted(areas, reverse=True)


def remembered(hysteresis, masks, granularity="all"):
    """What hysteresis makes of a grey frame with these masks."""
    frame = Segmentation(SIDE, SIDE, masks, (), 0, {}, None, "", "")
    return hysteresis.update(np.zeros((SIDE, SIDE, 3), np.uint8), frame, granularity).masks


@pytest.mark.parametrize("granularity", ["all", "objects"])
def test_strong_masks_lie_in_one_another_as_if_there_were_no_weak_ones(granularity):
    """Nine tenths of the inner one lie in the weak one, and those of the weak one in the outer."""
    outer, weak, inner = (0, 20, 0, 20), (2, 18, 0, 22), (4, 14, 12, 22)
    alone, _ = instances([outer, inner], granularity=granularity, overlap_threshold=0.9)
    beside, _ = instances([outer, inner, weak], weak=[2], overlap_threshold=0.9)
    strong = remembered(Hysteresis(), beside, granularity)
    assert [mask.bbox for mask in strong] == [mask.bbox for mask in alone]
    assert [mask.level for mask in strong] == [mask.level for mask in alone] == [0, 0]


@pytest.mark.parametrize("granularity", ["all", "objects", "parts"])
def test_of_strong_masks_hysteresis_keeps_those_of_the_granularity(granularity):
    alone, _ = instances([WALL, WINDOW, PANE, CAR], granularity=granularity)
    every, _ = instances([WALL, WINDOW, PANE, CAR])
    shown = remembered(Hysteresis(), every, granularity)
    described = [[(m.id, m.bbox, m.parent, m.level) for m in masks] for masks in (alone, shown)]
    assert described[0] == described[1]


@pytest.mark.parametrize("weak", [[], [0], [1], [0, 1]])
def test_a_mask_lies_in_a_weak_one_that_the_frame_before_had(weak):
    hysteresis = Hysteresis()
    remembered(hysteresis, instances([WALL, WINDOW, PANE])[0])
    # The car is weak and new: others are left out with it, or not.
    for new, some in (([], []), ([3], [CAR])):
        masks, _ = instances([WALL, WINDOW, PANE, *some], weak=[*weak, *new])
        found = remembered(hysteresis, masks)
        assert [(mask.parent, mask.level) for mask in found] == [(0, 0), (1, 1), (2, 2)]


def test_of_near_copies_the_one_of_the_higher_score_stays():
    copy = (0, 20, 0, 23)
    for scores in ([0.4, 0.6], [0.6, 0.4]):
        found, prompts = instances([WALL, copy], scores, ious=[0.5, 0.9], overlap_threshold=0.8)
        assert prompts.tolist() == [int(np.argmax(scores))]
        assert found[0].score == pytest.approx(0.6)
        assert found[0].predicted_iou == pytest.approx([0.5, 0.9][prompts[0]])


@pytest.mark.parametrize("combine", ["nms", "box_nms", "merge"])
def test_a_weak_mask_changes_no_strong_one_whatever_its_score(combine):
    copy = (0, 20, 0, 23)
    found, prompts = instances([WALL, copy, CAR], [0.4, 0.9, 0.8], weak=[1, 2], combine=combine)
    assert prompts.tolist() == [0, 2]
    assert [(mask.strong, mask.bbox[2]) for mask in found] == [(True, 96), (False, 80)]


def test_masks_lie_in_one_another_as_they_are_cleaned():
    island, gap = (24, 28, 4, 8), (8, 12, 8, 12)
    holes = [(0, row, column) for row in range(6, 14) for column in range(6, 14)]
    holes += [(0, row, column) for row in range(20, 30) for column in range(24)]
    holes = [place for place in holes if not (24 <= place[1] < 28 and 4 <= place[2] < 8)]
    parents = [
        [
            mask.parent
            for mask in instances([(0, 30, 0, 24), island, gap], holes=holes, **options)[0]
        ]
        for options in ({}, {"min_island_area": 4000}, {"min_hole_area": 4000})
    ]
    assert parents == [[0, 1, 0], [0, 0, 0], [0, 1, 1]]


def test_small_holes_are_filled_at_full_size():
    holes = [(0, 10, 10)]
    (holed,), _ = instances([WALL], holes=holes)
    (filled,), _ = instances([WALL], holes=holes, min_hole_area=17)
    (whole,), _ = instances([WALL])
    assert holed.area < whole.area == filled.area
    pixels = decode_full(filled, SIDE, SIDE)
    assert not decode_full(holed, SIDE, SIDE)[42, 42] and pixels[42, 42]
    assert (pixels == decode_full(whole, SIDE, SIDE)).all()
