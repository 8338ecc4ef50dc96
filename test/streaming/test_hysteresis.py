"""Hysteresis: weak masks stay where the frame before had them, and only there."""

from dataclasses import replace

import numpy as np
import pytest

from aopsam_ros.options import MaskOptions, SegmenterOptions
from aopsam_ros.results import Prompt, PromptState, Segmentation
from aopsam_ros.streaming.hysteresis import THRESHOLDS, Hysteresis, lowered
from support.drawn_masks import instance_of, rectangle

SIZE = (60, 80)
GREY = np.zeros((*SIZE, 3), np.uint8)
FULL = MaskOptions(predicted_iou_threshold=0.5, stability_threshold=0.7)
PLACES = {"cup": (5, 5), "plate": (30, 10), "spoon": (10, 50)}


def frame(*, moved=0, **scores):
    """A frame with objects of these predicted IoUs at their places."""
    masks, prompts = [], []
    for number, (name, score) in enumerate(scores.items(), 1):
        y, x = PLACES[name]
        pixels = rectangle(y + moved, y + moved + 20, x, x + 20, SIZE)
        prompt = (float(x), float(y))
        quality = {"predicted_iou": score, "stability_score": 0.9}
        masks.append(instance_of(pixels, number, label=name, prompt=prompt, **quality))
        prompts.append(Prompt(*prompt, 0.5, PromptState.KEPT))
    return Segmentation(*SIZE, tuple(masks), tuple(prompts), 3, {}, None, "", "")


def names(segmentation):
    return [mask.label for mask in segmentation.masks]


def test_a_weak_mask_stays_as_long_as_it_is_seen_and_does_not_come_by_itself():
    hysteresis = Hysteresis()
    frames = [
        (frame(cup=0.9, plate=0.45), ["cup"]),  # weak and new
        (frame(cup=0.45, plate=0.9), ["cup", "plate"]),  # weak and known
        (frame(cup=0.45, plate=0.9), ["cup", "plate"]),  # still
        (frame(plate=0.45, moved=2), ["plate"]),  # the cup is hidden
        (frame(cup=0.45, plate=0.45), ["plate"]),  # it is new again
        (frame(plate=0.45, moved=15), []),  # too far for the same one
    ]
    for number, (segmentation, expected) in enumerate(frames):
        assert names(hysteresis.update(GREY, segmentation, FULL)) == expected, number


def test_of_a_dropped_mask_the_prompt_is_rejected_and_ids_stay_without_gaps():
    found = Hysteresis().update(GREY, frame(cup=0.4, plate=0.9, spoon=0.8), FULL)
    assert [(mask.id, mask.label) for mask in found.masks] == [(1, "plate"), (2, "spoon")]
    kept, rejected = PromptState.KEPT, PromptState.REJECTED
    assert [prompt.state for prompt in found.prompts] == [rejected, kept, kept]


def test_masks_inside_a_dropped_one_belong_to_what_is_around_it():
    """The weak plate holds the spoon, and lies in the cup."""
    whole = frame(cup=0.9, plate=0.4, spoon=0.8)
    parents = ((0, 0), (1, 1), (2, 2))
    masks = [
        replace(mask, parent=parent, level=level)
        for mask, (parent, level) in zip(whole.masks, parents, strict=True)
    ]
    found = Hysteresis().update(GREY, replace(whole, masks=tuple(masks)), FULL)
    assert [(m.label, m.id, m.parent, m.level) for m in found.masks] == [
        ("cup", 1, 0, 0),
        ("spoon", 2, 1, 1),
    ]


def test_an_unsteady_mask_is_weak_too():
    unsteady = frame(cup=0.9)
    (mask,) = unsteady.masks
    unsteady = replace(unsteady, masks=(replace(mask, stability_score=0.6),))
    assert names(Hysteresis().update(GREY, unsteady, FULL)) == []


@pytest.mark.parametrize(("amount", "expected"), [(0.1, (0.4, 0.6)), (0.6, (0.0, 0.1))])
def test_both_thresholds_are_lowered_and_nothing_else(amount, expected):
    options = SegmenterOptions(mask=FULL)
    low = lowered(options, amount).mask
    thresholds = low.predicted_iou_threshold, low.stability_threshold
    assert thresholds == pytest.approx(expected)
    assert low.score_threshold == max(0.0, FULL.score_threshold - amount)
    assert replace(low, **{name: getattr(FULL, name) for name in THRESHOLDS.values()}) == FULL
