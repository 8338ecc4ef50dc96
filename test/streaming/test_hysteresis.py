"""Hysteresis: weak masks stay where the frame before had them, and only there."""

from dataclasses import replace

import numpy as np
import pytest

from aopsam_ros.results import Prompt, PromptState, Segmentation
from aopsam_ros.streaming.hysteresis import Hysteresis
from support.drawn_masks import instance_of, rectangle

SIZE = (60, 80)
GREY = np.zeros((*SIZE, 3), np.uint8)
THRESHOLD = 0.5
PLACES = {"cup": (5, 5), "plate": (30, 10), "spoon": (10, 50)}


def frame(*, moved=0, **scores):
    """A frame with objects of these predicted IoUs at their places."""
    masks, prompts = [], []
    for number, (name, score) in enumerate(scores.items(), 1):
        y, x = PLACES[name]
        pixels = rectangle(y + moved, y + moved + 20, x, x + 20, SIZE)
        prompt = (float(x), float(y))
        quality = {"predicted_iou": score, "strong": score >= THRESHOLD}
        masks.append(instance_of(pixels, number, label=name, prompt=prompt, **quality))
        prompts.append(Prompt(*prompt, 0.5, PromptState.KEPT))
    return Segmentation(*SIZE, tuple(masks), tuple(prompts), 3, {}, None, "", "")


def in_one_another(segmentation):
    masks = (
        replace(mask, parent=level, level=level, holders=tuple(range(level, 0, -1)))
        for level, mask in enumerate(segmentation.masks)
    )
    return replace(segmentation, masks=tuple(masks))


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
        assert names(hysteresis.update(GREY, segmentation)) == expected, number


def test_of_a_dropped_mask_the_prompt_is_rejected_and_ids_stay_without_gaps():
    found = Hysteresis().update(GREY, frame(cup=0.4, plate=0.9, spoon=0.8))
    assert [(mask.id, mask.label) for mask in found.masks] == [(1, "plate"), (2, "spoon")]
    kept, rejected = PromptState.KEPT, PromptState.REJECTED
    assert [prompt.state for prompt in found.prompts] == [rejected, kept, kept]


def test_a_prompt_that_gave_no_mask_keeps_its_state_where_a_dropped_mask_has_its_prompt():
    """In an image smaller than the confidence map, several prompts are cut to one place."""
    found = frame(cup=0.4)
    unused = replace(found.prompts[0], state=PromptState.UNUSED)
    found = Hysteresis().update(GREY, replace(found, prompts=(*found.prompts, unused)))
    assert [p.state for p in found.prompts] == [PromptState.REJECTED, PromptState.UNUSED]


def test_masks_inside_a_dropped_one_belong_to_what_is_around_it():
    """The weak plate holds the spoon, and lies in the cup."""
    nested = in_one_another(frame(cup=0.9, plate=0.4, spoon=0.8))
    found = Hysteresis().update(GREY, nested)
    assert [(m.label, m.id, m.parent, m.level) for m in found.masks] == [
        ("cup", 1, 0, 0),
        ("spoon", 2, 1, 1),
    ]


@pytest.mark.parametrize(
    ("granularity", "scores", "known", "new"),
    [
        ("objects", {"cup": 0.45, "plate": 0.9}, ["cup"], ["plate"]),
        ("parts", {"cup": 0.9, "plate": 0.45}, ["plate"], ["cup"]),
    ],
)
def test_of_masks_in_one_another_only_one_that_stays_hides_another(granularity, scores, known, new):
    hysteresis, both = Hysteresis(), in_one_another(frame(**scores))
    assert names(hysteresis.update(GREY, both, granularity)) == new
    hysteresis.update(GREY, in_one_another(frame(cup=0.9, plate=0.9)), granularity)
    assert names(hysteresis.update(GREY, both, granularity)) == known
