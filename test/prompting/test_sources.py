"""Prompt sources: SAM's grid, the predictor's points in source coordinates, wrong names."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aopsam_ros.errors import InputError, OptionError
from aopsam_ros.geometry import resized_geometry
from aopsam_ros.options import AsfOptions, SegmenterOptions
from aopsam_ros.prompting.boxes import Boxes
from aopsam_ros.prompting.grid import grid_points
from aopsam_ros.prompting.prompts import FrameInput
from aopsam_ros.prompting.sources import make_source, without_effect


@pytest.mark.parametrize("side", [1, 2, 16, 32])
def test_grid_is_sams(side):
    source = make_source(f"grid{side}")
    prompts = source.propose(FrameInput(resized_geometry(480, 640, 512), SegmenterOptions()))
    assert source.name == f"grid{side}"
    assert prompts.points.shape == (side * side, 2)
    # As segment-anything's build_point_grid: linspace between half-cell offsets.
    axis = np.linspace(0.5 / side, 1 - 0.5 / side, side)
    x, y = np.tile(axis, (side, 1)), np.tile(axis[:, None], (1, side))
    expected = np.stack([x, y], -1).reshape(-1, 2) * [640, 480]
    by_row = prompts.points[np.lexsort(prompts.points.T.round(6))]
    np.testing.assert_allclose(by_row, expected)
    assert not source.adaptive and not source.needs_confidence_map


STEPS = 192  # of a raster that holds all points of the grids below, and what lies midway


def empty_discs(points, height, width):
    """Areas, in shares, of the largest empty disc inside the image after each of the points."""
    x, y = np.meshgrid(np.linspace(0, width, STEPS + 1), np.linspace(0, height, STEPS + 1))
    squared = np.minimum(np.minimum(x, width - x), np.minimum(y, height - y)) ** 2
    areas = []
    for number, (left, top) in enumerate(points, start=1):
        squared = np.minimum(squared, (x - left) ** 2 + (y - top) ** 2)
        areas.append(np.pi * squared.max() * number / (height * width))
    return np.array(areas)


IMAGES = pytest.mark.parametrize("size", [(480, 480), (480, 640), (640, 480), (720, 1280)])


@pytest.mark.parametrize("name", ["grid3", "grid16", "grid24", "random1000"])
@IMAGES
def test_a_budget_may_end_points_anywhere(name, size):
    """Whatever number of points there was time for, they cover the image.

    Two shares cannot be had of a grid: any (side - 2) ** 2 - 1 points of it lack one that is not in
    the outer ring, and around that one a disc of one spacing lies empty inside the image, in a
    square pi * ((side - 2) ** 2 - 1) / side ** 2 shares: more than two from grid11 on, 2.4 of
    grid16, 2.8 of grid32. Of these images grid24 leaves the most, 3.3; random points leave 2.8.
    Row by row, the first 16 of a 16 x 16 grid leave 12 shares; points drawn independently leave 11.
    """
    source = make_source(name)
    prompts = source.propose(FrameInput(resized_geometry(*size, 512), SegmenterOptions()))
    assert empty_discs(prompts.points, *size).max() < 3.4


def boxes_of(centres, confidence):
    return Boxes(np.hstack((centres - 4.0, centres + 4.0)), np.asarray(confidence, np.float32))


@pytest.mark.parametrize("name", ["boxes", "box_centres"])
@IMAGES
def test_a_budget_may_end_boxes_of_equal_confidence_anywhere(name, size):
    """All over the image, but listed row by row, which leaves 20 shares and more."""
    geometry = resized_geometry(*size, 512)
    jitter = np.random.default_rng(0).uniform(-0.02, 0.02, (256, 2)) * size[::-1]
    boxes = boxes_of(grid_points(16, *size) + jitter, np.full(256, 0.5))
    frame = FrameInput(geometry, SegmenterOptions(), boxes=boxes)
    prompts = make_source(name).propose(frame)
    assert sorted(map(tuple, prompts.points)) == sorted(map(tuple, boxes.centres(geometry)))
    assert empty_discs(prompts.points, *size).max() < 4.2


def test_a_surer_box_goes_before_whatever_its_place():
    places = [[100.0, 100.0], [110.0, 100.0], [500.0, 400.0], [120.0, 100.0]]
    boxes = boxes_of(np.array(places), [0.2, 0.9, 0.2, 0.8])
    frame = FrameInput(resized_geometry(480, 640, 512), SegmenterOptions(), boxes=boxes)
    prompts = make_source("box_centres").propose(frame)
    assert prompts.confidence.tolist() == pytest.approx([0.9, 0.8, 0.2, 0.2])
    assert prompts.points[:2].tolist() == [[109.5, 99.5], [119.5, 99.5]]


@pytest.mark.parametrize(
    ("name", "is_spread"),
    [("predictor", True), ("clusters", True), ("grid8", False), ("boxes", False)],
)
def test_where_a_source_lists_the_surest_first_a_time_budget_spreads_them(name, is_spread):
    """A grid's order is spread by itself, and a detector's confidence counts."""
    assert make_source(name).spread == is_spread


def test_random_points_are_the_same_in_every_image_and_begin_alike():
    frame = FrameInput(resized_geometry(480, 640, 512), SegmenterOptions())
    few, many = (make_source(f"random{n}").propose(frame).points for n in (100, 4000))
    np.testing.assert_array_equal(few, many[:100])
    assert (many >= 0).all() and (many < [640, 480]).all()
    for axis in many.T:
        assert len(np.unique(axis.round(6))) == 4000  # in no rows


@pytest.mark.parametrize("name", ["grid8", "random64", "clusters", "boxes", "box_centres"])
def test_only_the_predictor_has_a_limit_of_its_own(name):
    """A bundle's `asf.max_prompts` is meant for its predictor."""
    assert make_source(name).defaults["asf.max_prompts"] == 4096
    assert "asf.max_prompts" not in make_source("predictor").defaults


@pytest.mark.parametrize(
    ("source", "name", "filtering", "reason"),
    [
        ("grid16", "asf.min_spacing", "paper", "with the prompt source 'grid16'"),
        ("boxes", "asf.prompts", "paper", "with the prompt source 'boxes'"),
        ("clusters", "asf.prompt_form", "paper", "with the prompt source 'clusters'"),
        ("random9", "asf.extent_overlap", "paper", "with the prompt source 'random9'"),
        ("clusters", "asf.elimination_iou", "paper", "with the prompt source 'clusters'"),
        ("boxes", "grid.crop_layers", "paper", "with the prompt source 'boxes'"),
        ("boxes", "mask.refine", "paper", "with the prompt source 'boxes'"),
        ("box_centres", "mask.refine", "paper", ""),
        ("predictor", "clusters.side", "paper", "with the prompt source 'predictor'"),
        ("random9", "reuse.enabled", "paper", "with the prompt source 'random9'"),
        ("predictor", "asf.elimination_cosine", "paper", "with asf.filtering 'paper'"),
        ("predictor", "asf.elimination_iou", "none", "with asf.filtering 'none'"),
        ("predictor", "asf.elimination_threshold", "paper", ""),
        ("clusters", "clusters.side", "paper", ""),
        ("random9", "grid.crop_layers", "paper", ""),
        ("grid16", "asf.max_prompts", "paper", ""),
        ("boxes", "mask.min_area", "paper", ""),
    ],
)
def test_options_without_effect(source, name, filtering, reason):
    found = without_effect(name, make_source(source), filtering, refines_boxes=lambda: True)
    assert found == (f"{name} has no effect {reason}" if reason else "")


@pytest.mark.parametrize(
    "name",
    [
        *("", "random", "random0", "random4097", "Predictor"),
        *("grid", "grid0", "grid65", "grid-1", "grid1.5", "gridx", "grid16 "),
    ],
)
def test_wrong_name_is_refused(name):
    with pytest.raises(OptionError, match="prompt source"):
        make_source(name)


@given(st.integers(1, 3000), st.integers(1, 3000), st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_peak_of_the_map_is_found_where_it_is_in_the_image(height, width, at):
    geometry = resized_geometry(height, width, 512)
    size = 128
    point = np.array([[at[0] * (width - 1), at[1] * (height - 1)]])
    rows, columns = geometry.valid_cells(size)
    x, y = np.rint(geometry.to_cells(point, size))[0].astype(int)
    confidence = np.zeros((size, size), np.float32)
    confidence[min(y, rows - 1), min(x, columns - 1)] = 0.9
    confidence[rows:], confidence[:, columns:] = 1.0, 1.0  # padding must not matter
    options = SegmenterOptions(AsfOptions(smoothing_sigma=0.0, confidence_threshold=0.5))
    prompts = make_source("predictor").propose(FrameInput(geometry, options, confidence))
    assert len(prompts.points) == 1
    cell = 4 / geometry.scale
    assert (np.abs(prompts.points - point) <= 1.5 * cell + 0.51).all()
    assert (prompts.points >= 0).all()
    assert (prompts.points <= [[width - 1, height - 1]]).all()
    assert prompts.confidence.tolist() == pytest.approx([0.9])


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("predictor", "needs a confidence map"),
        ("clusters", "needs the features"),
        ("boxes", "needs boxes"),
    ],
)
def test_sources_say_what_they_lack(name, reason):
    frame = FrameInput(resized_geometry(9, 9, 512), SegmenterOptions())
    with pytest.raises((InputError, OptionError), match=reason):
        make_source(name).propose(frame)
