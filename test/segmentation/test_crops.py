"""Crops: where they lie, that masks come back to their place, and which of two stays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.errors import InputError
from aopsam_ros.masks.rle import decode_full, encode_full
from aopsam_ros.results import Prompt, PromptState, Segmentation, Status
from aopsam_ros.segmentation.crops import crop_boxes, segment_crops
from aopsam_ros.segmentation.segmenter import Segmenter
from aopsam_ros.segmentation.time_budget import Stopwatch, TimeBudget
from support.drawn_masks import instance_of
from support.scenes import coloured_scene, iou


def test_crops_of_a_photograph_by_hand():
    # Overlap 512/1500 of 600: 204 pixels; crops of (204 + 900) / 2 by (204 + 600) / 2.
    assert crop_boxes(600, 900, 1) == [
        (0, 0, 900, 600),
        (0, 0, 552, 402),
        (0, 198, 552, 600),
        (348, 0, 900, 402),
        (348, 198, 900, 600),
    ]
    assert len(crop_boxes(600, 900, 3)) == 1 + 4 + 16 + 64
    assert crop_boxes(600, 900, 0) == [(0, 0, 900, 600)]


@given(st.integers(1, 2000), st.integers(1, 2000), st.integers(1, 3))
def test_each_layer_covers_the_image(height, width, layer):
    boxes = crop_boxes(height, width, layer)[len(crop_boxes(height, width, layer - 1)) :]
    assert all(0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height for x0, y0, x1, y1 in boxes)
    for axis, size in ((0, width), (1, height)):
        covered = np.zeros(size, bool)
        for box in boxes:
            covered[box[axis] : box[axis + 2]] = True
        assert covered.all()


def answer(rgb, drawn):
    masks = []
    for row, (mask, predicted_iou) in enumerate(drawn, start=1):
        (x, y, w, h), _ = encode_full(mask)
        middle = x + w / 2, y + h / 2
        places = middle, (x, y)  # of which one was merged with the other
        quality = {"predicted_iou": predicted_iou, "prompt": middle, "merged_prompts": places}
        masks.append(instance_of(mask, row, **quality))
    places = (place for mask in masks for place in mask.merged_prompts)
    prompts = tuple(Prompt(*place, 1.0, PromptState.KEPT) for place in places)
    height, width = rgb.shape[:2]
    return Segmentation(height, width, tuple(masks), prompts, 5, {"total": 1.0}, None, "m", "grid2")


def objects_as_seen(rgb):
    """A perfect segmenter of an image whose red channel numbers its objects."""
    present = [n for n in np.unique(rgb[..., 0]) if n]
    return answer(rgb, [(rgb[..., 0] == number, 0.9) for number in present])


def test_masks_come_back_to_their_place_once():
    rgb = np.zeros((600, 900, 3), np.uint8)
    places = [(100, 120, 30, 50), (300, 400, 40, 40), (560, 860, 35, 35), (5, 5, 590, 30)]
    for number, (top, left, height, width) in enumerate(places, start=1):
        rgb[top : top + height, left : left + width, 0] = number
    result = segment_crops(objects_as_seen, rgb, 2, 0.7)
    assert (result.height, result.width, result.prompts_decoded) == (600, 900, 21 * 5)
    found = {tuple(mask.bbox[i] for i in (1, 0, 3, 2)) for mask in result.masks}
    assert len(result.masks) == 4 and found == set(places)
    assert [mask.id for mask in result.masks] == [1, 2, 3, 4]
    assert [m.area for m in result.masks] == sorted((m.area for m in result.masks), reverse=True)
    for mask in result.masks:
        number = rgb[int(mask.prompt[1]), int(mask.prompt[0]), 0]
        np.testing.assert_array_equal(decode_full(mask, 600, 900), rgb[..., 0] == number)
    kept = [p for p in result.prompts if p.state == PromptState.KEPT]
    assert {(p.x, p.y) for p in kept} == {at for m in result.masks for at in m.merged_prompts}
    assert len(result.prompts) > 4  # the same objects were prompted for in other crops, too


def test_a_mask_that_a_crop_may_have_cut_is_left_out():
    rgb = np.zeros((600, 900, 3), np.uint8)
    rgb[100:500, 100:800, 0] = 1  # larger than every crop
    result = segment_crops(objects_as_seen, rgb, 1, 0.7)
    assert [mask.bbox for mask in result.masks] == [(100, 100, 700, 400)]
    rgb[:] = 0
    rgb[:, :500, 0] = 1  # touches the image's own edges; two crops show it whole but for one side
    result = segment_crops(objects_as_seen, rgb, 1, 0.7)
    assert [mask.bbox for mask in result.masks] == [(0, 0, 500, 600)]


def test_of_two_crops_the_smaller_ones_mask_stays():
    def rough_when_whole(rgb):
        height, width = rgb.shape[:2]
        mask = np.zeros((height, width), bool)
        if width == 900:
            mask[50:152, 50:150] = True
            return answer(rgb, [(mask, 0.99)])
        mask[50:150, 50:150] = True
        return answer(rgb, [(mask, 0.5)] if rgb[0, 0, 0] else [])

    rgb = np.zeros((600, 900, 3), np.uint8)
    rgb[0, 0, 0] = 1
    result = segment_crops(rough_when_whole, rgb, 1, 0.7)
    assert [mask.bbox for mask in result.masks] == [(50, 50, 100, 100)]
    assert [p.state.name for p in result.prompts] == ["REJECTED", "REJECTED", "KEPT", "KEPT"]


@pytest.mark.parametrize(
    ("granularity", "shown"),
    [("all", ["whole", "part"]), ("objects", ["whole"]), ("parts", ["part"])],
)
def test_masks_of_one_granularity_are_those_of_all_crops_together(granularity, shown):
    boxes = {"whole": (30, 30, 300, 300), "part": (60, 60, 40, 40)}  # x, y, width and height

    def sees_parts_in_crops_only(rgb):
        name = "whole" if rgb.shape[1] == 900 else "part"
        x, y, w, h = boxes[name]
        mask = np.zeros(rgb.shape[:2], bool)
        mask[y : y + h, x : x + w] = True
        return answer(rgb, [(mask, 0.9)] if rgb[0, 0, 0] else [])

    rgb = np.zeros((600, 900, 3), np.uint8)
    rgb[0, 0, 0] = 1
    result = segment_crops(sees_parts_in_crops_only, rgb, 1, 0.7, granularity=granularity)
    assert [mask.bbox for mask in result.masks] == [boxes[name] for name in shown]
    links = [(1, 0, 0), (2, 1, 1)] if granularity == "all" else [(1, 0, 0)]
    assert [(mask.id, mask.parent, mask.level) for mask in result.masks] == links
    kept = [(p.x, p.y) for p in result.prompts if p.state == PromptState.KEPT]
    assert kept == [place for mask in result.masks for place in mask.merged_prompts]


@pytest.fixture(scope="module")
def grid3(tiny_folder):
    with Segmenter.from_bundle(tiny_folder, "grid3", EngineOptions(threads=1)) as segmenter:
        yield segmenter


def test_crops_find_what_a_coarse_grid_misses(grid3):
    rgb = np.full((480, 640, 3), 40, np.uint8)
    small, large = np.zeros((2, 480, 640), bool)
    small[20:60, 20:60] = True  # away from the grid's three by three points
    large[100:400, 250:500] = True
    rgb[small, 1] = 220
    rgb[large, 2] = 220

    def best(result, wanted):
        return max(iou(decode_full(mask, 480, 640), wanted) for mask in result.masks)

    plain = grid3.segment(rgb)
    cropped = grid3.segment(rgb, grid3.options.updated({"grid.crop_layers": 2}))
    assert (plain.prompts_decoded, cropped.prompts_decoded) == (9, 9 * 21)
    assert len(cropped.prompts) == 9 * 21
    assert best(plain, small) < 0.1 and best(cropped, small) > 0.8
    assert best(plain, large) > 0.9 and best(cropped, large) > 0.9
    assert cropped.timings_ms["total"] >= cropped.timings_ms["encoder"] > 0


@pytest.mark.parametrize("granularity", ["objects", "parts"])
def test_none_of_the_masks_of_one_granularity_lies_in_another(grid3, granularity):
    rgb = np.full((480, 640, 3), 40, np.uint8)
    rgb[60:300, 60:400, 1] = 220
    rgb[165:215, 225:275, 1] = 160  # found by a crop's grid only
    every = {"grid.crop_layers": 2, "mask.predicted_iou_threshold": 0.0, "mask.min_area": 0}
    every |= {"mask.stability_threshold": 0.0}
    found = grid3.segment(rgb, grid3.options.updated(every))
    assert {mask.parent for mask in found.masks} > {0}
    options = grid3.options.updated({**every, "mask.granularity": granularity})
    assert {mask.parent for mask in grid3.segment(rgb, options).masks} == {0}


@pytest.mark.parametrize(
    ("budget_ms", "crops", "status"),
    [
        (0, 5, Status.COMPLETE),
        (5, 1, Status.NO_TIME),
        (15, 1, Status.CUT),
        (25, 2, Status.CUT),
        (35, 3, Status.CUT),
        (49, 4, Status.CUT),
        (51, 5, Status.COMPLETE),
        (900, 5, Status.COMPLETE),
    ],
)
def test_no_crop_is_begun_that_the_time_budget_has_no_room_for(
    grid3, monkeypatch, budget_ms, crops, status
):
    """Time passes in the encoder only, 10 ms an image; the whole image comes in any case."""
    now, engine = [0.0], grid3.engine

    def encode(*arguments, original=engine.encode):
        now[0] += 0.010
        return original(*arguments)

    monkeypatch.setattr(grid3, "time_budget", TimeBudget())  # other tests' frames took real time
    monkeypatch.setattr(engine, "encode", encode)
    options = grid3.options.updated({"grid.crop_layers": 1, "asf.time_budget_ms": budget_ms})
    rgb, _ = coloured_scene(240, 320)
    result = grid3.segment(rgb, options, stopwatch=Stopwatch(lambda: now[0]))
    assert result.timings_ms["total"] == pytest.approx(10 * crops)
    assert len(result.prompts) == 9 * crops
    assert result.status == status


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (23, 31)])
def test_any_image_size(grid3, size):
    options = grid3.options.updated({"grid.crop_layers": 3})
    result = grid3.segment(np.zeros((*size, 3), np.uint8), options)
    for mask in result.masks:
        assert decode_full(mask, *size).any()
    with pytest.raises(InputError, match="empty"):
        grid3.segment(np.zeros((0, 5, 3), np.uint8), options)
