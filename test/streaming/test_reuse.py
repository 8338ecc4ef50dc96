"""Frames that build on one another: what is taken over, and when nothing is."""

import itertools
from dataclasses import replace

import cv2
import numpy as np
import pytest

from aopsam_ros.errors import OptionError
from aopsam_ros.geometry import resized_geometry
from aopsam_ros.options import AsfOptions
from aopsam_ros.prompting.previous_prompts import PreviousPrompts
from aopsam_ros.prompting.prompts import PromptSet
from aopsam_ros.results import PromptState
from aopsam_ros.segmentation.time_budget import Stopwatch
from aopsam_ros.streaming.reuse import FrameReuse, ReuseOptions
from support.scenes import coloured_scene

SIZE = (180, 240)


@pytest.fixture
def scene():
    """Three objects and the ground with a prompt each, and a second prompt in the first object."""
    rgb, objects = coloured_scene(*SIZE)
    x, y = map(int, objects[0][1])
    rgb[y + 20 : y + 28, x : x + 8, 0] = 200
    return rgb


def ground(columns, top=256):
    """A smooth ground of random greys below `top`, 240 pixels high, without prompts."""
    random = np.random.default_rng(1)
    cells = np.kron(random.integers(0, top, (20, columns)), np.ones((12, 12), int))
    rgb = np.repeat(cv2.GaussianBlur(cells.astype(np.uint8), (0, 0), 5)[..., None], 3, axis=2)
    rgb[..., 0] = 0
    return rgb


class Stream:
    """Frames through a segmenter, each with what it took over."""

    def __init__(self, segmenter, **reuse):
        self.segmenter, self.memory, self.previous = segmenter, FrameReuse(), []
        self.reuse = ReuseOptions(**reuse)
        self.options = segmenter.options.updated({"asf.filtering": "none"})

    def __call__(self, rgb, seconds=0.0):
        previous = self.memory.begin(rgb, self.options, self.reuse)
        self.previous.append(previous)
        encoded = self.segmenter.encode(rgb)
        clock = itertools.chain([0.0], itertools.repeat(seconds))  # for the time budget
        found = self.segmenter.segment_frame(
            encoded, self.options, None, Stopwatch(lambda: next(clock)), previous
        )
        self.memory.end(found)
        return found

    def plain(self, rgb):
        return self.segmenter.segment(rgb, self.options)

    @property
    def key_frames(self):
        return [previous is None for previous in self.previous]


def runs(segmentation):
    return sorted((mask.bbox, mask.counts.tolist()) for mask in segmentation.masks)


def same(one, other):
    assert one.prompts == other.prompts
    assert one.prompts_decoded == other.prompts_decoded
    assert runs(one) == runs(other)
    np.testing.assert_array_equal(one.confidence_map, other.confidence_map)


def test_a_still_image_keeps_its_masks_with_fewer_prompts_and_no_predictor(tiny, scene):
    stream = Stream(tiny)
    first = stream(scene)
    assert first.prompts_decoded == 5 and len(first.masks) == 4
    for _ in range(5):
        again = stream(scene)
        assert runs(again) == runs(first)
        assert again.prompts_decoded == 4
        assert {prompt.state for prompt in again.prompts} == {PromptState.KEPT}
        assert again.confidence_map is None and again.timings_ms["predictor"] == 0
    assert stream.key_frames == [True] + [False] * 5


def test_a_merged_mask_keeps_all_of_its_parts(tiny):
    rgb = np.zeros((*SIZE, 3), np.uint8)
    rgb[..., 2] = 250
    for left, right, green in ((60, 80, 0), (80, 160, 80), (160, 180, 160)):
        rgb[40:140, left:right, 1:] = green, 0
    for x in (66, 166):  # each of the outer parts is one mask with the middle
        rgb[86:94, x : x + 8, 0] = 255
    stream = Stream(tiny)
    stream.options = stream.options.updated({"mask.combine": "merge"})
    first = stream(rgb)
    assert [round(mask.bbox[2], -1) for mask in first.masks] == [120]
    assert len({*first.masks[0].merged_prompts}) == 2
    for _ in range(3):
        assert runs(stream(rgb)) == runs(first)
    assert stream.key_frames == [True] + [False] * 3


def test_what_is_new_is_found_where_it_appears(tiny, scene):
    stream = Stream(tiny)
    stream(scene)
    changed = scene.copy()
    changed[150:174, 100:140] = (0, 160, 130)
    changed[158:166, 116:124, 0] = 255
    found = stream(changed)
    assert not stream.key_frames[-1]
    assert found.prompts_decoded == 5  # four masks of before and the new place, not the duplicate
    assert runs(found) == runs(stream.plain(changed))


def test_a_cut_another_size_and_other_options_start_anew(tiny, scene):
    stream = Stream(tiny)
    stream(scene)
    other = np.ascontiguousarray(255 - scene[::-1])
    same(stream(other), stream.plain(other))
    smaller = np.ascontiguousarray(other[:-1])
    stream(smaller)
    stream.options = stream.options.updated({"mask.min_area": 5})
    stream(smaller)
    stream.reuse = ReuseOptions(change_threshold=9)
    stream(smaller)
    assert stream.key_frames == [True] * 5


@pytest.mark.parametrize("every", [1, 2, 3])
def test_key_frames_come_round(tiny, scene, every):
    stream = Stream(tiny, key_frames=every)
    for _ in range(7):
        stream(scene)
    assert stream.key_frames == [number % every == 0 for number in range(7)]


def test_memory_is_that_of_one_frame(tiny, scene):
    stream = Stream(tiny, change_threshold=1, key_frames=1000)
    random = np.random.default_rng(0)
    for _ in range(12):
        noisy = np.clip(scene + random.integers(-3, 4, scene.shape), 0, 255).astype(np.uint8)
        found = stream(noisy)
        most = len({mask.prompt for mask in found.masks})
        following = stream.memory.begin(noisy, stream.options, stream.reuse)
        stream.memory.end(found)
        assert following is None or len(following.points) <= most
    assert stream.key_frames.count(True) < 12


def test_points_move_with_the_camera_and_what_comes_into_view_has_changed(tiny):
    wide = ground(30)
    wide[..., 0] = wide[..., 1]
    wide[:, 280:, 0] = 0  # no prompt leaves the image
    stream = Stream(tiny)
    found = stream(np.ascontiguousarray(wide[:200, 12:300]))
    stream(np.ascontiguousarray(wide[:200, :288]))  # the camera moves to the left
    previous = stream.previous[-1]
    expected = np.array(sorted({m.prompt for m in found.masks if m.prompt[0] + 12 < 287}))
    assert len(expected) > 3
    moved = previous.points[np.lexsort(previous.points.T[::-1])]
    np.testing.assert_allclose(moved, expected + np.array([12, 0]), atol=1.5)
    assert previous.changed[:, :3].all() and not previous.changed[20:-20, 20:-20].any()


def test_what_came_into_view_stays_fresh_until_a_key_frame(tiny):
    wide = ground(40)
    stream = Stream(tiny, key_frames=6)
    for left in (0, 12, 24, 36, 36, 36, 36):  # the camera moves to the right, then stands
        stream(np.ascontiguousarray(wide[:200, left : left + 288]))
    widths = [None if e is None else e.changed[:, 20:].all(axis=0).sum() for e in stream.previous]
    cells = 12 * stream.previous[1].changed.shape[1] / 288
    assert widths[0] is None and widths[6] is None
    np.testing.assert_allclose(widths[1:6], cells * np.array([1, 2, 3, 3, 3]), atol=2)


def test_what_a_prompt_leaves_behind_is_looked_at_again(tiny):
    wide = ground(30, top=60)
    wide[60:120, 10:80, 1] = 230  # an object, whose prompt is near its left side
    wide[86:94, 14:22, 0] = 255
    stream = Stream(tiny)
    found = stream(np.ascontiguousarray(wide[:200, :300]))
    (mask,) = found.masks
    np.testing.assert_allclose(mask.bbox, (10, 60, 70, 60), atol=4)
    stream(np.ascontiguousarray(wide[:200, 30:330]))
    previous = stream.previous[-1]
    assert len(previous.points) == 0
    share = previous.changed.shape[1] / 300
    left_behind = previous.changed[round(66 * share) : round(115 * share), 2 : round(46 * share)]
    assert left_behind.all()
    assert not previous.changed[: round(45 * share), : round(200 * share)].any()


@pytest.mark.parametrize("waiting", [False, True])
def test_masks_of_before_come_first_then_proposals_in_changes_and_what_waited(waiting):
    changed = np.zeros((2, 4), bool)
    changed[1, 3] = True
    points = np.array([[1.0, 2.0], [9.0, 9.0], [98.0, 48.0], [8.0, 8.0]])
    confidence = np.float32([0.4, 0.7, 0.6, 0.9])
    count = 4 if waiting else 1  # those after the first were not decoded for want of time
    previous = PreviousPrompts(points[:count], confidence[:count], 1, changed)
    proposed = PromptSet(np.array([[99.0, 49.0], [0.0, 0.0]]), np.float32([0.8, 0.1]))
    prompts = previous.merge(proposed, resized_geometry(50, 100, 64), AsfOptions())
    others = [[8, 8], [99, 49], [9, 9]] if waiting else [[99, 49]]
    assert prompts.points.tolist() == [[1, 2], *others]
    scores = [0.4, 0.9, 0.8, 0.7] if waiting else [0.4, 0.8]
    np.testing.assert_allclose(prompts.confidence, scores)
    assert prompts.num_protected == 1 and not previous.covers_frame
    assert previous.prompts(AsfOptions()).points.tolist() == points[:count].tolist()


def test_a_proposal_whose_box_agrees_with_that_of_a_mask_of_before_is_eliminated():
    boxes = np.array([[0.0, 0.0, 50.0, 50.0], [0.0, 0.0, 50.0, 49.0], [60.0, 0.0, 90.0, 40.0]])
    points = np.array([[9.0, 9.0], [30.0, 30.0], [70.0, 20.0]])
    confidence = np.float32([0.2, 0.9, 0.8])
    everywhere = np.ones((1, 1), bool)
    previous = PreviousPrompts(points[:1], confidence[:1], 1, everywhere, boxes[:1])
    proposed = PromptSet(points[1:], confidence[1:], boxes[1:])
    prompts = previous.merge(proposed, resized_geometry(50, 100, 64), AsfOptions())
    assert prompts.points.tolist() == points.tolist()
    assert prompts.duplicate.tolist() == [False, True, False]
    assert prompts.boxes.tolist() == boxes.tolist()


def test_after_a_frame_without_masks_new_prompts_keep_their_boxes(tiny, scene):
    memory, reuse = FrameReuse(), ReuseOptions()
    memory.begin(scene, tiny.options, reuse)
    memory.end(replace(tiny.segment(scene), masks=(), prompts=()))
    changed = scene.copy()
    changed[60:100, 80:140] = 255 - changed[60:100, 80:140]
    previous = memory.begin(changed, tiny.options, reuse)
    boxes = np.array([[80.0, 60.0, 140.0, 100.0], [80.0, 60.0, 140.0, 99.0]])
    proposed = PromptSet(np.full((2, 2), 90.0), np.array([0.9, 0.8], np.float32), boxes)
    prompts = previous.merge(proposed, resized_geometry(*SIZE, 128), AsfOptions())
    assert prompts.boxes.tolist() == boxes.tolist()
    assert prompts.duplicate.tolist() == [False, True]
    without = replace(proposed, boxes=None)  # a model that expects none
    assert previous.merge(without, resized_geometry(*SIZE, 128), AsfOptions()).boxes is None


def test_a_frame_without_time_does_not_empty_the_next(tiny, scene):
    stream = Stream(tiny)
    asf = {"asf.time_budget_ms": 60_000, "asf.batch_size": 1}
    stream.options = stream.options.updated(asf)
    first = stream(scene)
    assert stream(scene, seconds=3600.0).prompts_decoded == 1
    assert runs(stream(scene)) == runs(first)
    assert stream.key_frames == [True, False, False]
    assert stream.previous[-1].num_protected == 1 and len(stream.previous[-1].points) == 4


@pytest.mark.parametrize("budget_ms", [0, 60_000])
def test_what_was_beyond_the_most_prompts_stays_out(tiny, scene, budget_ms):
    stream = Stream(tiny)
    changes = {"asf.max_prompts": 2, "asf.time_budget_ms": budget_ms}
    stream.options = stream.options.updated(changes)
    found = stream(scene)
    assert found.prompts_decoded == 2 and len(found.prompts) == 5
    stream(scene)
    assert len(stream.previous[-1].points) == 2


def test_a_grid_is_decoded_whole_whatever_came_before(tiny_grid, scene):
    stream = Stream(tiny_grid)
    first = stream(scene)
    same_again = stream(scene)
    assert not stream.key_frames[-1]
    assert same_again.prompts == first.prompts and runs(same_again) == runs(first)


@pytest.mark.parametrize(
    "values", [{"change_threshold": -1}, {"change_threshold": 256}, {"key_frames": 0}]
)
def test_options_without_a_meaning(values):
    with pytest.raises(OptionError):
        ReuseOptions(**values)
