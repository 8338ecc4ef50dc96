"""From an image to results: the newest is worked on, in order, and an error ends only one."""

import threading
import time
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest

from aopsam_ros.errors import BundleError, InferenceError, InputError
from aopsam_ros.ros.monitoring import statistics
from aopsam_ros.ros.monitoring.statistics import Statistics
from aopsam_ros.ros.pairing import MAX_DEPTH_IMAGES, Frame, nanoseconds
from aopsam_ros.ros.pipeline import Pipeline, warm_up
from aopsam_ros.ros.publishers import Publishers
from aopsam_ros.ros.services.segment_service import answer
from aopsam_ros.ros.services.sessions import Sessions
from aopsam_ros.ros.services.teaching import teach
from aopsam_ros.ros.worker import MOST_TASKS, THREAD_NAME, NewestWorker
from aopsam_ros.segmentation.segmenter import Segmenter
from aopsam_ros.srv import Segment, Teach
from aopsam_ros.streaming.follower import Follower, Target, TargetState
from support.messages import CONFIGURATION, image_of, raw_image
from support.scenes import boxes_scene

PATIENCE_S = 60.0
LEAST = {"encoder.padding": "least"}
ON_GREEN = [30.0, 35.0]  # a box of the scene


class Gate:
    """Work that waits until it is let through, and remembers what it was given."""

    def __init__(self):
        self.done, self.dropped, self.errors = [], 0, []
        self.begun, self.open = threading.Semaphore(0), threading.Semaphore(0)
        self.worker = NewestWorker(self.work, self.drop, self.errors.append)

    def work(self, item, wait):
        self.begun.release()
        assert self.open.acquire(timeout=PATIENCE_S)
        self.done.append(item)

    def drop(self):
        self.dropped += 1

    def takes_no_more(self):
        """Whether an item does not replace the one that waits."""
        before = self.dropped
        self.worker.put("late")
        return self.dropped == before

    def begin(self, item):
        """Start the worker, and let it take an item."""
        self.worker.start()
        self.worker.put(item)
        assert self.begun.acquire(timeout=PATIENCE_S)


def test_newest_item_wins_and_drops_are_counted():
    gate = Gate()
    gate.begin(0)
    for item in range(1, 6):
        gate.worker.put(item)
    gate.open.release(2)
    assert gate.begun.acquire(timeout=PATIENCE_S)
    gate.worker.stop()
    assert gate.done == [0, 5]
    assert gate.dropped == 4


def test_stop_waits_for_the_work_at_hand_and_lets_the_rest_go():
    gate = Gate()
    gate.begin("at hand")
    gate.worker.put("waiting")
    assert gate.worker.submit(lambda: gate.done.append("task"))
    stopping = threading.Thread(target=gate.worker.stop)
    stopping.start()
    while not gate.takes_no_more():
        time.sleep(0.001)
    dropped = gate.dropped
    assert stopping.is_alive()
    gate.open.release()
    stopping.join(PATIENCE_S)
    gate.worker.start()
    gate.worker.stop()
    assert gate.done == ["at hand"]
    assert gate.dropped == dropped


def test_only_a_running_worker_takes_items_and_it_can_run_again():
    gate = Gate()
    gate.open.release(10)
    gate.worker.put("before start")
    gate.worker.stop()
    for item in ("first", "second"):
        gate.worker.start()
        gate.begin(item)  # a second start changes nothing
        gate.worker.stop()
        gate.worker.put("after stop")
    assert gate.done == ["first", "second"]
    assert not [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]


def test_tasks_and_items_have_turns_and_waiting_tasks_are_few():
    gate = Gate()
    done, ran = gate.done, threading.Semaphore(0)

    def task(number):
        done.append(f"task {number}")
        ran.release()

    assert not gate.worker.submit(lambda: task("too early"))
    gate.begin("first")
    accepted = [gate.worker.submit(lambda number=n: task(number)) for n in range(MOST_TASKS + 2)]
    assert accepted == [True] * MOST_TASKS + [False] * 2
    gate.worker.put("second")
    gate.open.release(2)
    for _ in range(MOST_TASKS):
        assert ran.acquire(timeout=PATIENCE_S)
    gate.worker.stop()
    tasks = [f"task {number}" for number in range(MOST_TASKS)]
    assert done == ["first", tasks[0], "second", *tasks[1:]]


def test_an_exception_of_the_work_is_reported_and_the_thread_goes_on():
    gate = Gate()
    ran = threading.Semaphore(0)

    def no_memory():
        ran.release()
        raise MemoryError

    gate.worker.start()
    assert gate.worker.submit(no_memory)
    assert ran.acquire(timeout=PATIENCE_S)
    gate.worker.put("next")
    assert gate.begun.acquire(timeout=PATIENCE_S)
    assert gate.worker.busy_s > 0
    gate.open.release()
    gate.worker.stop()
    assert (gate.done, gate.errors) == (["next"], ["MemoryError"])
    assert gate.worker.busy_s == 0


class Pair:
    """Two threads, whose items begin together; the later one is done first."""

    def __init__(self, fails):
        self.done, self.errors, self.fails = [], [], fails
        self.together = threading.Barrier(2, timeout=PATIENCE_S)
        self.later, self.ended = threading.Event(), threading.Semaphore(0)
        self.worker = NewestWorker(self.work, lambda: None, self.errors.append, threads=2)

    def work(self, item, wait):
        try:
            self.together.wait()  # the other one has begun as well
            if item % 2:
                self.later.set()
            else:
                assert self.later.wait(PATIENCE_S)
            if item in self.fails:
                raise ValueError
            wait()
            self.done.append(item)
        finally:
            self.ended.release()

    def put_two(self, first):
        self.later.clear()
        self.worker.put(first)
        while self.together.n_waiting == 0:  # taken, so that the next does not replace it
            threading.Event().wait(0.001)
        self.worker.put(first + 1)
        for _ in range(2):
            assert self.ended.acquire(timeout=PATIENCE_S)


@pytest.mark.parametrize("fails", [(), (0, 3)])
def test_items_end_in_order_and_one_that_fails_does_not_hold_up_those_behind_it(fails):
    pair = Pair(fails)
    pair.worker.start()
    for first in range(0, 20, 2):
        pair.put_two(first)
    pair.worker.stop()
    assert pair.done == [item for item in range(20) if item not in fails]
    assert pair.errors == ["ValueError"] * len(fails)
    assert not [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]


# The pipeline: configurations do not mix.


class Recorder:
    """Takes results as `Publishers` does."""

    needs_depth = False

    def __init__(self):
        self.masks, self.views, self.depths, self.calls = [], [], [], []
        self.arrived = threading.Semaphore(0)

    def publish(self, segmentation, header):
        self.masks.append((header.stamp.sec, len(segmentation.masks)))

    def publish_views(self, segmented, transform):
        self.views.append(segmented.frame.configuration)
        self.arrived.release()

    def publish_3d(self, segmented, depth, transform):
        self.depths.append(nanoseconds(depth.header))
        self.arrived.release()

    def listen_to_transforms(self, wanted):
        self.calls.append(f"listen {wanted}")

    def transform_of(self, frame):
        if frame.configuration.target_frame:
            raise InputError("no transform")

    def subscribed(self, *topics):
        return False

    def __getattr__(self, name):
        assert hasattr(Publishers, name)
        return lambda *_: self.calls.append(name)


def frame_of(number, options):
    image = image_of(boxes_scene())
    image.header.stamp.sec = number
    return Frame(image, 0.0, replace(CONFIGURATION, options=options))


@pytest.fixture
def parts(tiny_folder):
    publishers, failures, counts = Recorder(), [], Statistics()
    segmenter = Segmenter.from_bundle(tiny_folder)
    settings = SimpleNamespace(configuration=replace(CONFIGURATION, options=segmenter.options))
    configuration = lambda: settings.configuration  # noqa: E731
    pipeline = Pipeline(segmenter, publishers, counts, configuration, failures.append)
    pipeline.worker.start()
    yield SimpleNamespace(**locals())
    pipeline.close()
    assert publishers.calls[-2:] == ["stop_waiting", "destroy"]


def send(parts, frame):
    parts.pipeline.put(frame)
    assert parts.publishers.arrived.acquire(timeout=PATIENCE_S)


def test_each_frame_is_segmented_with_the_configuration_it_came_with(parts):
    usual = parts.pipeline.segmenter.options
    strict = usual.updated({"asf.confidence_threshold": 0.99})
    for number, options in enumerate((usual, strict, usual)):
        send(parts, frame_of(number, options))
    assert parts.publishers.masks == [(0, 2), (1, 0), (2, 2)]
    assert [view.options for view in parts.publishers.views] == [usual, strict, usual]
    assert not parts.failures


def test_an_images_own_depth_outlasts_its_segmentation(parts, monkeypatch):
    parts.publishers.needs_depth = True
    assert parts.pipeline.wants("depth")
    segment = parts.pipeline.segmenter.segment

    def segment_slowly(*arguments, **options):
        for number in range(2 * MAX_DEPTH_IMAGES):
            depth = raw_image(np.ones((4, 5), np.float32), milliseconds=1000 + 33 * number)
            parts.pipeline.callbacks["depth"](depth)
        return segment(*arguments, **options)

    monkeypatch.setattr(parts.pipeline.segmenter, "segment", segment_slowly)
    send(parts, frame_of(1, parts.pipeline.segmenter.options))
    assert parts.publishers.arrived.acquire(timeout=PATIENCE_S), parts.failures
    assert parts.publishers.depths == [1_000_000_000]


def test_depth_is_given_time_to_begin_each_time_the_node_is_activated(parts, monkeypatch):
    parts.publishers.needs_depth = True
    assert parts.pipeline.wants("depth")
    parts.pipeline.stop()
    now = time.monotonic() + 60.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    assert parts.pipeline.wants("depth")
    parts.pipeline.worker.start()
    send(parts, frame_of(1, parts.pipeline.segmenter.options))
    parts.pipeline.stop()
    assert not parts.failures


def test_each_image_says_whether_tf_is_needed(parts, monkeypatch):
    for frame in ("base", ""):
        options = parts.pipeline.segmenter.options
        configuration = replace(CONFIGURATION, options=options, target_frame=frame)
        monkeypatch.setattr(parts.settings, "configuration", configuration)
        parts.pipeline.on_image(image_of(boxes_scene()))
        assert parts.publishers.arrived.acquire(timeout=PATIENCE_S)
    assert parts.publishers.calls == ["listen True", "listen False"]


@pytest.mark.parametrize("needs_depth", [False, True])
def test_a_missing_transform_is_counted_where_boxes_in_space_are_wanted(parts, needs_depth):
    parts.publishers.needs_depth = needs_depth
    frame = frame_of(1, parts.pipeline.segmenter.options)
    send(parts, replace(frame, configuration=replace(frame.configuration, target_frame="base")))
    parts.pipeline.stop()
    what = "no boxes in space" if needs_depth else "markers are in the camera's frame"
    assert parts.failures == [f"{what}: no transform"]
    assert parts.counts.report().total["not_located"] == needs_depth


def test_a_missing_transform_keeps_an_images_depth_from_nobody(parts):
    """`~/select` answers in the camera's own frame."""
    parts.publishers.needs_depth = True
    assert parts.pipeline.wants("depth")
    frame = frame_of(1, parts.pipeline.segmenter.options)
    depth = raw_image(np.ones((4, 5), np.float32), milliseconds=1000)
    parts.pipeline.callbacks["depth"](depth)
    send(parts, replace(frame, configuration=replace(frame.configuration, target_frame="base")))
    kept = parts.pipeline.segmented
    parts.pipeline.stop()
    assert kept.depth == depth and not parts.publishers.depths
    assert parts.failures == ["no boxes in space: no transform"]


def test_what_is_shown_of_an_image_does_not_wait_for_the_flicker(parts, monkeypatch):
    shown, views = [], parts.publishers.views
    monkeypatch.setattr(statistics, "camera_flicker", lambda *_: shown.append(len(views)))
    for number in range(2):
        send(parts, frame_of(number, parts.pipeline.segmenter.options))
    parts.pipeline.stop()
    assert shown == [2]


def test_services_encode_images_as_the_stream_does(parts, watched):
    """Otherwise examples, and what things look like at first, are not those of the stream."""
    pipeline, scene = parts.pipeline, boxes_scene()
    options = pipeline.segmenter.options.updated(LEAST)
    frame = frame_of(1, options)
    pipeline.follow(Follower(scene, pipeline.segmenter.segment(scene).masks[0]))
    encoded = watched(pipeline.segmenter.engine, "encode")
    send(parts, frame)
    answer(pipeline.segmenter, Segment.Request(points=ON_GREEN), frame, Sessions(), options)
    pipeline.labeller = Mock()
    pipeline.labeller.teach.return_value, pipeline.labeller.labels.names = 1, ["mug"]
    assert teach(pipeline, Teach.Request(label="mug", points=ON_GREEN), options).success
    # The first image of what is followed, the stream's, two prompts: all without padding.
    assert [valid is not None for _, valid in encoded] == [True] * 4
    assert [call.args[-1] for call in pipeline.labeller.teach.mock_calls] == [options]


def test_what_is_chosen_while_another_thing_is_given_up_is_followed(parts, monkeypatch):
    given_up = Target(TargetState.GIVEN_UP, None, 0.0, 301)
    old, new = (Mock(spec=Follower, target=given_up) for _ in range(2))
    pipeline = parts.pipeline
    choosing = threading.Thread(target=pipeline.follow, args=[new])

    def published(target, header, rgb):
        choosing.start()
        choosing.join(0.1)  # as soon as the old one is said to be given up

    monkeypatch.setattr(parts.publishers, "publish_target", published)
    pipeline.follow(old)
    send(parts, frame_of(1, pipeline.segmenter.options))
    choosing.join(PATIENCE_S)
    assert pipeline.follower is new and not parts.failures


def test_what_is_followed_gets_the_options_of_a_frame_in_its_turn(parts):
    """The frame before it may still be worked on, by another thread."""
    follower, seen = Mock(spec=Follower, target=None, options="before"), []
    parts.pipeline.follow(follower)
    frame = frame_of(1, parts.pipeline.segmenter.options)
    parts.pipeline.process(frame, lambda: seen.append(follower.options))
    assert seen[0] == "before" and follower.options == frame.configuration.follow


def test_a_graph_that_only_following_needs_and_that_is_gone_ends_following_alone(parts):
    failed = threading.Event()

    def update(*_):
        failed.set()
        raise BundleError("mask_decoder.onnx: missing")

    parts.pipeline.follow(Mock(spec=Follower, update=update))
    parts.pipeline.put(frame_of(1, parts.pipeline.segmenter.options))
    assert failed.wait(PATIENCE_S)
    send(parts, frame_of(2, parts.pipeline.segmenter.options))
    assert parts.publishers.masks == [(2, 2)] and parts.pipeline.follower is None
    assert parts.failures == ["image skipped: mask_decoder.onnx: missing"]


@pytest.mark.parametrize("error", [InferenceError("not finite"), RuntimeError("out of memory")])
def test_an_error_ends_the_frame_and_not_the_thread(parts, monkeypatch, error):
    options, failed = parts.pipeline.segmenter.options, threading.Event()

    def fail(rgb, options, boxes, **_):
        failed.set()
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(parts.pipeline.segmenter, "segment", fail)
        parts.pipeline.put(frame_of(1, options))
        assert failed.wait(PATIENCE_S)
    send(parts, frame_of(2, options))
    assert parts.publishers.masks == [(2, 2)]
    (failure,) = parts.failures
    assert failure.startswith("image skipped: ")
    assert str(error) in failure
    assert ("Traceback" in failure) == isinstance(error, RuntimeError)


@pytest.mark.parametrize("source", ["boxes", "box_centres", "grid3"])
def test_warm_up_with_other_prompts(tiny_folder, source):
    with Segmenter.from_bundle(tiny_folder, prompt_source=source) as segmenter:
        warm_up(segmenter)
