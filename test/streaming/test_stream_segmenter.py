"""The frames of one camera: what reuse and tracking change, and in which order they happen."""

import itertools
import time
from unittest.mock import Mock

import pytest

from aopsam_ros.results import Status
from aopsam_ros.streaming.follower import Follower
from aopsam_ros.streaming.reuse import ReuseOptions
from aopsam_ros.streaming.stream_segmenter import StreamSegmenter
from aopsam_ros.streaming.tracker import TrackingOptions
from support.scenes import coloured_scene

RGB, _ = coloured_scene(180, 240)


@pytest.fixture
def stream(tiny):
    return StreamSegmenter(tiny)


def runs(segmentation):
    return [(mask.bbox, mask.counts.tolist()) for mask in segmentation.masks]


@pytest.mark.parametrize("reuse", [None, ReuseOptions()])
@pytest.mark.parametrize("tracking", [None, TrackingOptions()])
def test_a_first_frame_is_what_the_segmenter_finds(stream, tiny, reuse, tracking):
    found, alone = stream.segment(RGB, reuse=reuse, tracking=tracking), tiny.segment(RGB)
    assert found.prompts == alone.prompts
    assert runs(found) == runs(alone)


def predicted(stream, reuse):
    """Whether the next frame needs the prompt predictor."""
    return stream.segment(RGB, reuse=reuse).confidence_map is not None


def test_reuse_needs_no_predictor_for_a_still_image_until_it_was_off(stream):
    on = ReuseOptions()
    assert [predicted(stream, reuse) for reuse in (on, on, None, on, on)] == [
        *(True, False),
        *(True, True, False),
    ]
    stream.reset()
    assert predicted(stream, on)


@pytest.mark.parametrize("other", [{}, {"reuse": ReuseOptions()}])
def test_tracking_that_was_off_knows_no_object(stream, other):
    def ids():
        return {mask.id for mask in stream.segment(RGB, tracking=TrackingOptions()).masks}

    before = ids()
    assert before and ids() == before
    stream.segment(RGB, **other)
    assert not before & ids()


def test_a_frame_that_fails_leaves_nothing_to_the_next(stream, tiny, monkeypatch):
    on = ReuseOptions()
    stream.segment(RGB, reuse=on)
    with monkeypatch.context() as patch:
        patch.setattr(tiny, "segment_frame", lambda *a, **k: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            stream.segment(RGB, reuse=on)
    assert predicted(stream, on)


@pytest.mark.parametrize(
    ("options", "first"),
    [
        ({}, "encode"),
        ({"tracking": TrackingOptions()}, "encode"),
        ({"hysteresis": 0.1}, "encode"),
        ({"reuse": ReuseOptions()}, "wait"),
    ],
)
def test_frames_are_segmented_side_by_side_unless_they_build_on_one_another(
    stream, tiny, monkeypatch, options, first
):
    steps, encode = [], tiny.encode
    monkeypatch.setattr(tiny, "encode", lambda *a: steps.append("encode") or encode(*a))
    stream.segment(RGB, wait=lambda: steps.append("wait"), **options)
    assert steps[0] == first and steps[-1] == "wait" and "encode" in steps


def test_a_source_without_reuse_keeps_no_frame_waiting(tiny_grid, monkeypatch):
    steps, encode = [], tiny_grid.encode
    monkeypatch.setattr(tiny_grid, "encode", lambda *a: steps.append("encode") or encode(*a))
    stream = StreamSegmenter(tiny_grid)
    stream.segment(RGB, reuse=ReuseOptions(), wait=lambda: steps.append("wait"))
    assert steps == ["encode", "wait"]


@pytest.mark.parametrize("builds_on", ["reuse", "follower"])
def test_waiting_for_the_frame_before_takes_nothing_of_a_frames_time_budget(
    stream, tiny, builds_on
):
    follower = Follower(RGB, tiny.segment(RGB).masks[0])
    on = {"reuse": ReuseOptions()} if builds_on == "reuse" else {"follower": follower}
    pauses = itertools.chain([1.0], itertools.repeat(0.0))
    options = tiny.options.updated({"asf.time_budget_ms": 1000, "asf.batch_size": 1})
    found = stream.segment(RGB, 0, options, wait=lambda: time.sleep(next(pauses)), **on)
    assert found.status == Status.COMPLETE and found.prompts_decoded > 1
    assert found.timings_ms["total"] < 1000


def test_learning_a_thing_to_follow_takes_nothing_of_a_frames_time_budget(stream, tiny):
    class SlowLearner(Follower):
        def prepare(self, *arguments):
            super().prepare(*arguments)
            time.sleep(1.0)

    follower = SlowLearner(RGB, tiny.segment(RGB).masks[0])
    options = tiny.options.updated({"asf.time_budget_ms": 1000, "asf.batch_size": 1})
    found = stream.segment(RGB, 0, options, follower=follower)
    assert found.status == Status.COMPLETE and found.prompts_decoded > 1


def test_a_frame_that_begins_early_takes_nothing_from_the_one_before_it(stream, tiny, monkeypatch):
    """Reuse was switched off in between, and two frames are worked on side by side."""
    on, encode = ReuseOptions(), tiny.encode

    def encode_beside(*arguments):
        monkeypatch.undo()
        with pytest.raises(TimeoutError):
            stream.segment(RGB, tracking=TrackingOptions(), wait=Mock(side_effect=TimeoutError))
        return encode(*arguments)

    monkeypatch.setattr(tiny, "encode", encode_beside)
    stream.segment(RGB, reuse=on)
    assert not predicted(stream, on)
