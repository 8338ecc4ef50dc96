"""The worker: errors end a frame, never the thread; configurations do not mix."""

import threading
from types import SimpleNamespace

import pytest
from sensor_msgs.msg import Image

from aopsam_ros.engines.onnxruntime import OnnxRuntimeEngine
from aopsam_ros.errors import InferenceError
from aopsam_ros.options import SegmenterOptions
from aopsam_ros.ros.frame import Frame
from aopsam_ros.ros.monitoring.statistics import Statistics
from aopsam_ros.ros.parameter_table import Configuration
from aopsam_ros.ros.pipeline import Pipeline, warm_up
from aopsam_ros.segmentation.segmenter import Segmenter
from support.messages import image_of
from support.scenes import boxes_scene

PATIENCE_S = 20.0


class Recorder:
    """Takes results as `Publishers` does."""

    needs_depth = False

    def __init__(self):
        self.masks, self.views, self.calls = [], [], []
        self.arrived = threading.Semaphore(0)

    def publish(self, segmentation, header):
        self.masks.append((header.stamp.sec, len(segmentation.masks)))

    def publish_views(self, segmentation, rgb, header, calibration, configuration):
        self.views.append((header.stamp.sec, rgb.shape, configuration))
        self.arrived.release()

    def subscribed(self, *topics):
        return False

    def clear(self):
        self.calls.append("clear")

    def destroy(self):
        self.calls.append("destroy")


def frame_of(number, options, image=None):
    image = image or image_of(boxes_scene())
    image.header.stamp.sec = number
    return Frame(image, 0.0, Configuration(options))


@pytest.fixture
def parts(tiny_folder):
    publishers, failures = Recorder(), []
    segmenter = Segmenter.from_bundle(tiny_folder)
    pipeline = Pipeline(segmenter, publishers, Statistics(), Configuration, failures.append)
    pipeline.start()
    yield SimpleNamespace(pipeline=pipeline, publishers=publishers, failures=failures)
    pipeline.close()
    assert publishers.calls[-1] == "destroy"


def test_results_of_several_workers_come_in_the_order_of_their_images(tiny_folder, monkeypatch):
    publishers, failures = Recorder(), []
    segmenter = Segmenter.from_bundle(tiny_folder)
    segment, began, later_done = segmenter.segment, threading.Event(), threading.Event()

    def first_is_slow(rgb, options, boxes):
        if not began.is_set():
            began.set()
            assert later_done.wait(PATIENCE_S)
            return segment(rgb, options, boxes)
        found = segment(rgb, options, boxes)
        later_done.set()
        return found

    monkeypatch.setattr(segmenter, "segment", first_is_slow)
    pipeline = Pipeline(
        segmenter, publishers, Statistics(), Configuration, failures.append, workers=2
    )
    pipeline.start()
    pipeline.put(frame_of(1, segmenter.options))
    assert began.wait(PATIENCE_S)
    pipeline.put(frame_of(2, segmenter.options))
    for _ in range(2):
        assert publishers.arrived.acquire(timeout=PATIENCE_S)
    pipeline.close()
    assert (publishers.masks, failures) == ([(1, 2), (2, 2)], [])


def send(parts, frame):
    parts.pipeline.put(frame)
    assert parts.publishers.arrived.acquire(timeout=PATIENCE_S)


def test_each_frame_is_segmented_with_the_configuration_it_came_with(parts):
    usual = parts.pipeline.segmenter.options
    strict = usual.updated({"asf.confidence_threshold": 0.99})
    for number, options in enumerate((usual, strict, usual)):
        send(parts, frame_of(number, options))
    assert parts.publishers.masks == [(0, 2), (1, 0), (2, 2)]
    assert [view[2].options for view in parts.publishers.views] == [usual, strict, usual]
    assert not parts.failures


@pytest.mark.parametrize("error", [InferenceError("not finite"), RuntimeError("out of memory")])
def test_an_error_ends_the_frame_and_not_the_thread(parts, monkeypatch, error):
    options, failed = parts.pipeline.segmenter.options, threading.Event()

    def fail(rgb, options, boxes):
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


def test_a_bad_image_is_reported_in_one_line(parts):
    options = parts.pipeline.segmenter.options
    parts.pipeline.put(frame_of(1, options, Image()))
    while not parts.failures:
        threading.Event().wait(0.01)
    send(parts, frame_of(2, options))
    assert "\n" not in parts.failures[0]


@pytest.mark.parametrize("source", ["boxes", "box_centres", "grid3"])
def test_warm_up_with_other_prompts(tiny_folder, source):
    with Segmenter.from_bundle(tiny_folder, prompt_source=source) as segmenter:
        warm_up(segmenter)


def test_warm_up_runs_every_graph_and_leaves_the_options_alone(tiny_folder, monkeypatch):
    used = []
    for name in ("encode", "predict", "decode"):
        graph = getattr(OnnxRuntimeEngine, name)
        monkeypatch.setattr(
            OnnxRuntimeEngine, name, lambda *a, _g=graph, _n=name: used.append(_n) or _g(*a)
        )
    with Segmenter.from_bundle(tiny_folder, engine="onnxruntime") as segmenter:
        before = segmenter.options
        warm_up(segmenter)
        assert set(used) == {"encode", "predict", "decode"}
        assert segmenter.options == before
        assert isinstance(before, SegmenterOptions)
