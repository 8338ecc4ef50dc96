"""The outlines made by hand fit the photographs and each other."""

import cv2
import numpy as np
import pytest

from support import golden_masks

NAMES = golden_masks.annotated_names()


def test_enough_photographs_are_annotated():
    assert len(NAMES) >= 5
    assert set(NAMES) <= set(golden_masks.photograph_names())


@pytest.mark.parametrize("name", NAMES)
def test_outlines_lie_on_the_photograph(name):
    entry = golden_masks.ANNOTATIONS["photographs"][name]
    assert golden_masks.read_rgb(name).shape == (entry["height"], entry["width"], 3)
    for item in entry["objects"]:
        corners = np.array(item["polygon"])
        assert corners.min() >= 0, item["name"]
        assert (corners.max(axis=0) < (entry["width"], entry["height"])).all(), item["name"]


@pytest.mark.parametrize("name", NAMES)
def test_objects_are_large_enough_and_distinct(name):
    masks = golden_masks.hand_masks(name)
    assert len(masks) == len(golden_masks.ANNOTATIONS["photographs"][name]["objects"])
    for title, mask in masks.items():
        assert mask.sum() >= 0.001 * mask.size, title
        others = [other for key, other in masks.items() if key != title]
        assert max(golden_masks.best_ious([mask], others)) < 0.6, title


def test_objects_differ_from_their_surroundings():
    """Bricks are darker than the mortar around every outline."""
    grey = golden_masks.read_rgb("bricks.jpg").mean(axis=2)
    masks = golden_masks.hand_masks("bricks.jpg")
    everything = np.logical_or.reduce(list(masks.values()))
    for title, mask in masks.items():
        near, far = (cv2.dilate(mask.astype(np.uint8), None, iterations=n) > 0 for n in (1, 5))
        ring = far & ~near & ~everything
        contrast = grey[ring].mean() - grey[mask].mean()
        assert contrast > 10, f"{title}: {contrast:.1f}"
