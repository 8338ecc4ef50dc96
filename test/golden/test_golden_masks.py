"""The shipped model on the shipped photographs: the objects a person outlined, the stored masks.

The outlined objects have to be found with the options of `config/everything.yaml`. Their bars stand
in `annotations.json`: for each photograph, the least mean over its objects of the best IoU that any
of the model's masks reaches. They stand about 0.04 below what the shipped model was measured at, so
that a worse one is noticed; what it is bad at shows in them, too (single bricks, the cat's eyes).

Runs on another processor differ in the last bits, so that a mask at a threshold may come or go:
nearly all stored masks have to be there again at IoU 0.9, in both directions.
"""

import json

import numpy as np
import pytest

from aopsam_ros.segmentation.segmenter import Segmenter
from support import golden_masks

BARS = golden_masks.ANNOTATIONS["bars"]
SAME_MASK = 0.9
SHARE = 0.95


@pytest.fixture(scope="module")
def segmentations():
    """Segmentations of all shipped photographs by file name."""
    with Segmenter.from_bundle("nano", engine=golden_masks.ENGINE) as segmenter:
        names = golden_masks.photograph_names()
        return {name: segmenter.segment(golden_masks.read_rgb(name)) for name in names}


@pytest.fixture(scope="module")
def everything():
    """Segmentations of the photographs with outlined objects, with all masks that there are."""
    with Segmenter.from_bundle("nano", engine=golden_masks.ENGINE) as segmenter:
        options = segmenter.options.updated(golden_masks.everything_options())
        names = golden_masks.annotated_names()
        return {name: segmenter.segment(golden_masks.read_rgb(name), options) for name in names}


@pytest.mark.parametrize("name", golden_masks.annotated_names())
def test_objects_are_found(name, everything):
    ious = golden_masks.hand_ious(name, everything[name])
    mean = float(np.mean(list(ious.values())))
    worst = ", ".join(f"{title} {ious[title]:.2f}" for title in sorted(ious, key=ious.get))
    assert mean >= BARS[name], f"mean best IoU {mean:.3f}, bar {BARS[name]}: {worst[:400]}"


def test_objects_are_found_on_average(everything):
    means = [
        np.mean(list(golden_masks.hand_ious(name, everything[name]).values()))
        for name in golden_masks.annotated_names()
    ]
    assert float(np.mean(means)) >= BARS["average"]


def test_stored_masks_belong_to_the_shipped_model():
    stored = json.loads(golden_masks.MODEL_FILE.read_text())
    assert stored == golden_masks.model_identity(), (
        "the shipped model has changed: judge its overlays, then run support.golden_masks"
    )


@pytest.mark.parametrize("stored_first", [True, False])
def test_stored_masks_are_found_again_and_no_new_ones(segmentations, stored_first):
    missing, total = unmatched(segmentations, stored_first)
    assert total > 0
    assert len(missing) <= (1 - SHARE) * total, f"not on the other side, of {total}: {missing}"


def unmatched(segmentations, stored_first):
    """Return the masks of one side that the other lacks, and how many the side has."""
    unmatched, total = [], 0
    for name, segmentation in segmentations.items():
        wanted = golden_masks.stored_masks(name)
        found = golden_masks.full_masks(segmentation)
        if not stored_first:
            wanted, found = found, wanted
        total += len(wanted)
        for index, value in enumerate(golden_masks.best_ious(wanted, found)):
            if value < SAME_MASK:
                unmatched.append(f"{name} mask {index}: {value:.2f}")
    return unmatched, total
