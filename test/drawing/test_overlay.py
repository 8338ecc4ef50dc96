"""Overlays: what is drawn where, in which colour, and what is left alone."""

import dataclasses
from itertools import combinations

import numpy as np
import pytest

from aopsam_ros.drawing.overlay import MASK_OPACITY, draw_confidence_map, draw_overlay
from aopsam_ros.drawing.palette import PROMPT_STYLES, colour_of
from aopsam_ros.errors import InputError, MaskFormatError
from aopsam_ros.masks import encode
from aopsam_ros.results import InstanceMask, Prompt, PromptState, Segmentation


def grey_image(height=120, width=160):
    return np.full((height, width, 3), 128, np.uint8)


def rectangle(mask_id, box):
    crop = np.ones((box[3], box[2]), bool)
    return InstanceMask(mask_id, box, crop.size, 0.9, 0.9, (0.0, 0.0), 0.5, "", encode(crop))


def segmentation(rgb, masks=(), prompts=()):
    height, width = rgb.shape[:2]
    return Segmentation(height, width, masks, prompts, 0, {}, None, "nano", "predictor")


def tinted(value, mask_id):
    return (1 - MASK_OPACITY) * value + MASK_OPACITY * np.array(colour_of(mask_id))


def distance(first, second):
    return float(np.linalg.norm(np.subtract(colour_of(first), colour_of(second))))


def test_colours_are_stable_and_distinct():
    assert [colour_of(i) for i in range(1, 40)] == [colour_of(i) for i in range(1, 40)]
    assert min(distance(a, b) for a, b in combinations(range(1, 37), 2)) > 20
    assert min(distance(i, i + 1) for i in range(1, 200)) > 60


def test_a_mask_tints_its_inside_and_nothing_else():
    rgb = grey_image()
    before = rgb.copy()
    overlay = draw_overlay(rgb, segmentation(rgb, (rectangle(3, (40, 30, 50, 40)),)))
    assert np.abs(overlay[50, 60] - tinted(128, 3)).max() <= 1
    outside = np.ones(rgb.shape[:2], bool)
    outside[27:73, 37:93] = False  # the outline reaches a little over the edge
    assert (overlay[outside] == 128).all()
    assert (rgb == before).all(), "the input was drawn on"
    dark = np.zeros_like(rgb)
    overlay = draw_overlay(dark, segmentation(dark, (rectangle(1, (40, 30, 50, 40)),)))
    assert overlay[30, 60].sum() > 1.5 * overlay[50, 60].sum()  # the outline is brighter


def test_small_masks_lie_on_top_and_colours_do_not_mix():
    rgb = grey_image()
    masks = rectangle(1, (10, 10, 120, 90)), rectangle(2, (50, 40, 30, 30))
    overlay = draw_overlay(rgb, segmentation(rgb, masks))
    assert np.abs(overlay[55, 65] - tinted(128, 2)).max() <= 1
    assert np.abs(overlay[20, 30] - tinted(128, 1)).max() <= 1


@pytest.mark.parametrize("state", list(PromptState))
def test_each_state_has_its_marker(state):
    rgb = grey_image(960, 1280)
    prompts = (Prompt(640.0, 480.0, 0.5, state),)
    overlay = draw_overlay(rgb, segmentation(rgb, prompts=prompts))
    near = overlay[470:491, 630:651].reshape(-1, 3).astype(int)
    colour = np.array(PROMPT_STYLES[state].colour)
    assert np.abs(near - colour).sum(axis=1).min() < 30
    far = np.ones(rgb.shape[:2], bool)
    far[460:501, 620:661] = False
    assert (overlay[far] == 128).all()
    plain = draw_overlay(rgb, segmentation(rgb, prompts=prompts), show_prompts=False)
    assert (plain == rgb).all()


@pytest.mark.parametrize("size", [(120, 160), (1500, 2000), (40, 40), (1, 1)])
def test_the_legend_is_a_strip_at_the_bottom(size):
    rgb = grey_image(*size)
    prompts = tuple(Prompt(0.0, 0.0, 0.5, state) for state in PromptState)
    with_legend = draw_overlay(rgb, segmentation(rgb, prompts=prompts), show_legend=True)
    without = draw_overlay(rgb, segmentation(rgb, prompts=prompts))
    changed = np.flatnonzero((with_legend != without).any(axis=(1, 2)))
    assert with_legend.shape == rgb.shape
    if size[0] >= 40:
        assert changed.size and changed[0] > 0.8 * size[0]


def test_with_ids_a_label_is_written_once():
    rgb = grey_image()
    mask = dataclasses.replace(rectangle(1, (10, 10, 140, 100)), prompt=(80.0, 100.0))
    plain, labelled = (
        draw_overlay(rgb, segmentation(rgb, (each,)), show_prompts=False, show_ids=True)
        for each in (mask, dataclasses.replace(mask, label="cup"))
    )
    rows = np.flatnonzero((plain != labelled).any(axis=(1, 2)))
    assert rows.min() > 85 and rows.max() < 110  # and not at the box's centre, too


def test_an_empty_mask_is_skipped():
    rgb = grey_image()
    empty = InstanceMask(1, (0, 0, 0, 0), 0, 0.9, 0.9, (0.0, 0.0), 0.5, "", np.zeros(0, np.uint32))
    assert (draw_overlay(rgb, segmentation(rgb, (empty,))) == rgb).all()


def test_what_does_not_fit_is_refused():
    rgb = grey_image()
    with pytest.raises(InputError, match="160x120"):
        draw_overlay(rgb, segmentation(grey_image(60, 80)))
    for wrong in (rgb[..., 0], rgb.astype(np.float32), rgb[:0], rgb[..., :2]):
        with pytest.raises(InputError, match="the image"):
            draw_overlay(wrong, segmentation(rgb))
    with pytest.raises(MaskFormatError, match="inside"):
        draw_overlay(rgb, segmentation(rgb, (rectangle(1, (150, 30, 50, 40)),)))


def test_the_confidence_map_glows_where_confidence_is_high():
    rgb = grey_image()
    confidence = np.zeros((30, 40), np.float32)
    confidence[10, 25] = 1.0
    overlay = draw_confidence_map(rgb, confidence).astype(int)
    assert overlay.shape == rgb.shape
    brightest = np.unravel_index(overlay.sum(axis=2).argmax(), rgb.shape[:2])
    # Cell (10, 25) of 30 x 40 is around pixel (42, 102) of 120 x 160.
    assert np.hypot(brightest[0] - 42, brightest[1] - 102) < 5
    quiet = overlay[110, 10]
    assert quiet.max() - quiet.min() <= 4 and quiet.max() < 128


def test_a_confidence_map_of_another_kind_is_refused():
    with pytest.raises(InputError, match="two dimensions"):
        draw_confidence_map(grey_image(), np.zeros((1, 4, 4), np.float32))
    overlay = draw_confidence_map(grey_image(), np.array([[np.nan, 7.0]], np.float32))
    assert overlay.shape == (120, 160, 3)
