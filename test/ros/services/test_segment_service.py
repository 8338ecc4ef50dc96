"""~/segment over DDS: prompts on the newest or a given image, beside a running stream."""

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import rclpy
from lifecycle_msgs.msg import Transition
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image, RegionOfInterest
from std_msgs.msg import Header

from aopsam_ros.masks import decode_full
from aopsam_ros.msg import Mask
from aopsam_ros.options import SegmenterOptions
from aopsam_ros.ros.services import segment_service
from aopsam_ros.ros.services.segment_service import SegmentService
from aopsam_ros.ros.services.sessions import Session
from aopsam_ros.srv import Segment
from support.messages import box_of, image_of
from support.scenes import boxes_scene

GREEN = (20, 30, 40, 20)  # x, y, width, height of the first box of the scene
ON_GREEN = [30.0, 35.0]
STREAMED = image_of(boxes_scene())
PATIENCE_S = 60.0


def segment(robot, **fields):
    return robot.call(Segment, "segment", Segment.Request(**fields))


def test_a_point_on_the_newest_image(active):
    stamp = active.answer(STREAMED).header.stamp
    response = segment(active, points=ON_GREEN)
    assert (response.success, response.message) == (True, "")
    assert response.header.stamp == stamp
    assert response.header.frame_id == "camera_optical_frame"
    assert (response.height, response.width) == (128, 128)
    (mask,) = response.masks
    assert np.abs(np.subtract(box_of(mask), GREEN)).max() <= 2
    assert (mask.prompt_x, mask.prompt_y) == tuple(ON_GREEN)
    assert decode_full(mask, 128, 128)[40, 40]


def test_a_given_image_needs_no_stream_and_keeps_its_header(active):
    own_image = image_of(boxes_scene(((50, 10, 60, 30),)), frame_id="hand")
    own_image.header.stamp.sec = 77
    roi = RegionOfInterest(x_offset=52, y_offset=12, width=50, height=20)
    response = segment(active, image=own_image, box=roi, all_masks=True)
    assert response.success, response.message
    assert (response.header.frame_id, response.header.stamp.sec) == ("hand", 77)
    assert len(response.masks) == 3
    assert any(np.abs(np.subtract(box_of(m), (50, 10, 60, 30))).max() <= 2 for m in response.masks)
    scores = [mask.predicted_iou for mask in response.masks]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "needs a point on the object, or a box"),
        ({"points": [1.0, 2.0, 3.0]}, "3 numbers are odd"),
        ({"points": [1.0, 2.0], "labels": [1, 0]}, "2 labels do not fit 1 points"),
        ({"box": RegionOfInterest(width=30)}, "the box of 30x0 pixels is empty"),
        ({"box": RegionOfInterest(height=30)}, "the box of 0x30 pixels is empty"),
        ({"box": RegionOfInterest(x_offset=128, width=9, height=9)}, "the box lies outside"),
        ({"points": [1.0, 2000.0]}, "outside the image of 128x128"),
        ({"points": [1.0, 2.0], "image": Image(width=5, height=5)}, "encoding"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_reason(active, fields, reason):
    active.answer(STREAMED)
    response = segment(active, **fields)
    assert not response.success
    assert reason in response.message and "\n" not in response.message
    assert not response.masks


def test_a_box_beyond_the_edges_is_cut_and_the_answer_says_so(active):
    active.answer(STREAMED)
    response = segment(active, box=RegionOfInterest(x_offset=70, y_offset=70, width=99, height=50))
    assert (response.success, response.message) == (True, "the box was cut at the image's edges")
    assert response.masks


def test_a_session_stays_on_its_image_while_the_stream_goes_on(active):
    stamp = active.answer(STREAMED).header.stamp
    first = segment(active, points=ON_GREEN, session="gripper")
    assert (first.success, first.continued) == (True, False)
    elsewhere = active.answer(image_of(boxes_scene(((50, 10, 60, 30),))))
    assert elsewhere.header.stamp != stamp
    further = segment(active, points=[*ON_GREEN, 50.0, 45.0], session="gripper")
    assert (further.success, further.continued, further.header.stamp) == (True, True, stamp)
    assert np.abs(np.subtract(box_of(further.masks[0]), GREEN)).max() <= 2
    other = segment(active, points=[60.0, 20.0], session="eye")
    assert (other.continued, other.header.stamp) == (False, elsewhere.header.stamp)
    assert segment(active, points=ON_GREEN).header.stamp == elsewhere.header.stamp


def test_sessions_are_few_and_end_when_nobody_uses_them(active):
    active.answer(STREAMED)
    for number in range(5):  # one more than a node keeps
        assert segment(active, points=ON_GREEN, session=str(number)).success
    again = [segment(active, points=ON_GREEN, session=str(n)).continued for n in (4, 1, 0)]
    assert again == [True, True, False]
    active.set(segment__session_s=1.0)
    active.spin(1.0)
    active.fresh_health()  # what is due once a second was done since
    assert not segment(active, points=ON_GREEN, session="4").continued
    assert active.change(Transition.TRANSITION_DEACTIVATE)
    active.activate()
    active.answer(STREAMED)
    assert not segment(active, points=ON_GREEN, session="4").continued


def test_a_mask_to_begin_with_is_checked_and_a_model_without_mask_input_says_so(active):
    masks = active.answer(STREAMED).masks
    response = segment(active, points=ON_GREEN, mask=masks[0])
    ignored = "the model has no mask input: the mask was ignored"
    assert (response.success, response.message) == (True, ignored)
    damaged = Mask(counts=[5], roi=RegionOfInterest(width=2, height=2))
    response = segment(active, points=ON_GREEN, mask=damaged, session="none begins")
    assert not response.success and "longer than its box (4 pixels)" in response.message
    assert not segment(active, points=ON_GREEN, session="none begins").continued


def test_requests_and_stream_are_both_answered(active):
    """Ten requests at once beside a stream: each is answered, and images go on meanwhile."""
    assert active.set(segment__timeout_ms=60_000) == []
    client = active.client(Segment, "segment")
    active.answer(STREAMED)
    active.forget()
    futures = [client.call_async(Segment.Request(points=ON_GREEN)) for _ in range(10)]

    def all_answered():
        active.send(STREAMED)
        return all(future.done() for future in futures)

    active.wait(all_answered, "a request was not answered")
    responses = [future.result() for future in futures]
    assert sum(response.success for response in responses) >= 8  # as many as may wait
    assert {r.message for r in responses if not r.success} <= {"too many requests wait already"}
    active.wait(lambda: active.received["masks"], "the stream stood still")
    assert len(active.answer(STREAMED).masks) == 2


def test_every_request_is_answered_whatever_the_state(active):
    active.clean_up()
    assert segment(active, points=ON_GREEN).message == "the node is not active"
    active.activate()
    assert segment(active, points=ON_GREEN).message == "no image has come yet"
    active.answer(STREAMED)
    assert segment(active, points=ON_GREEN).success
    assert active.change(Transition.TRANSITION_DEACTIVATE)
    assert segment(active, points=ON_GREEN).message == "the node is not active"
    active.activate()
    # The image of the time before is forgotten.
    assert segment(active, points=ON_GREEN).message == "no image has come yet"
    assert not active.logged("Traceback"), active.log.read_text()


# The service alone, with a worker whose tasks are run by the test.


def answer(segmenter, request, newest, sessions, options):
    return Segment.Response(success=True, message=f"{len(request.points)} numbers")


@pytest.fixture
def parts(context, monkeypatch):
    monkeypatch.setattr(segment_service, "answer", answer)
    node = rclpy.create_node("aopsam", context=context, enable_rosout=False)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    settings = SimpleNamespace(
        segment_timeout_ms=60_000, segment_session_s=60.0, options=SegmenterOptions()
    )
    tasks = []
    worker = SimpleNamespace(tasks=tasks, submit=lambda task: tasks.append(task) or True)
    service = SegmentService(node, lambda: settings, print)
    service.serve(worker, None, lambda: None)
    client = node.create_client(Segment, "/aopsam/segment")
    parts = SimpleNamespace(**locals())
    yield parts
    executor.shutdown()
    node.destroy_node()


def until(parts, condition):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        parts.executor.spin_once(timeout_sec=0.05)


def waiting_request(parts):
    """The future of a request that waits for the model."""
    before = len(parts.worker.tasks)
    until(parts, parts.client.service_is_ready)
    future = parts.client.call_async(Segment.Request(points=[1.0, 2.0]))
    until(parts, lambda: len(parts.worker.tasks) > before)
    return future


def test_an_answer_wakes_an_executor_that_waits_without_a_limit(parts):
    future = waiting_request(parts)
    threading.Timer(0.1, parts.worker.tasks[0]).start()  # in another thread, as the worker does
    while not future.done():
        parts.executor.spin_once()
    assert future.result().message == "2 numbers"


def test_a_request_that_waits_too_long_is_refused_and_a_late_answer_dropped(parts):
    parts.settings.segment_timeout_ms = 0
    late = waiting_request(parts)
    parts.settings.segment_timeout_ms = 60_000
    patient = waiting_request(parts)
    parts.service.expire()
    until(parts, late.done)
    assert late.result().message == "timed out: the model was busy"
    assert not patient.done()
    for task in parts.worker.tasks:
        task()
    until(parts, patient.done)
    assert patient.result().success
    assert not late.result().success


def test_a_request_that_is_refused_while_it_is_worked_on_may_be_done(parts, monkeypatch):
    monkeypatch.setattr(
        segment_service, "answer", lambda *given: parts.service.expire() or answer(*given)
    )
    parts.settings.segment_timeout_ms = 0
    late = waiting_request(parts)
    parts.worker.tasks[0]()
    until(parts, late.done)
    assert not late.result().success
    assert late.result().message.endswith("it may be done all the same")


def test_a_session_that_begins_while_the_node_stops_is_not_continued(parts, monkeypatch):
    found = []

    def answer_late(segmenter, request, newest, sessions, options):
        found.append(sessions.find("gripper"))
        if len(found) == 1:
            parts.service.stop()
            sessions.begin("gripper", Session(Header(), None))
        return answer(segmenter, request, newest, sessions, options)

    monkeypatch.setattr(segment_service, "answer", answer_late)
    for _ in range(2):
        parts.service.serve(parts.worker, None, lambda: None)
        waiting_request(parts)
        parts.worker.tasks[-1]()
    assert found == [None, None]


def test_waiting_requests_are_refused_when_the_node_stops(parts):
    futures = [waiting_request(parts) for _ in range(3)]
    parts.service.stop()
    until(parts, lambda: all(future.done() for future in futures))
    assert {future.result().message for future in futures} == {"the node is not active"}
