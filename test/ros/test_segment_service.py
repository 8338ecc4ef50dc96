"""~/segment over DDS: prompts on the newest or a given image, beside a running stream."""

import array

import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from sensor_msgs.msg import Image, RegionOfInterest

from aopsam_ros.masks import decode_full
from aopsam_ros.srv import Segment
from support.messages import image_of
from support.scenes import boxes_scene

GREEN = (20, 30, 40, 20)  # x, y, width, height of the first box of the scene
ON_GREEN = [30.0, 35.0]
STREAMED = image_of(boxes_scene())


def request(**fields):
    if "points" in fields:
        fields["points"] = array.array("d", fields["points"])
    if "labels" in fields:
        fields["labels"] = array.array("B", fields["labels"])
    return Segment.Request(**fields)


def ask(robot, **fields):
    return robot.call(Segment, "segment", request(**fields))


def box_of(mask):
    return mask.roi.x_offset, mask.roi.y_offset, mask.roi.width, mask.roi.height


def test_a_point_on_the_newest_image(active):
    stamp = active.answer(STREAMED).header.stamp
    response = ask(active, points=ON_GREEN)
    assert (response.success, response.message) == (True, "")
    assert response.header.stamp == stamp
    assert response.header.frame_id == "camera_optical_frame"
    assert (response.height, response.width) == (128, 128)
    (mask,) = response.masks
    assert np.abs(np.subtract(box_of(mask), GREEN)).max() <= 2
    assert (mask.prompt_x, mask.prompt_y) == tuple(ON_GREEN)
    assert decode_full(mask, 128, 128)[40, 40]


def test_a_given_image_needs_no_stream_and_keeps_its_header(active):
    picture = image_of(boxes_scene(((50, 10, 60, 30),)), frame_id="hand")
    picture.header.stamp.sec = 77
    roi = RegionOfInterest(x_offset=52, y_offset=12, width=50, height=20)
    response = ask(active, image=picture, box=roi, all_masks=True)
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
        ({"points": [1.0, 2.0, 3.0]}, "3 numbers are too few"),
        ({"points": [1.0, 2.0], "labels": [1, 0]}, "points must be [K, 2]"),
        ({"points": [1.0, 2.0], "labels": [7]}, "a label is 1"),
        ({"points": [float("nan"), 2.0]}, "not finite"),
        ({"points": [1.0, 2000.0]}, "outside the image of 128x128"),
        ({"points": [1.0, 2.0], "image": Image(width=5, height=5)}, "encoding"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_reason(active, fields, reason):
    active.answer(STREAMED)
    response = ask(active, **fields)
    assert not response.success
    assert reason in response.message and "\n" not in response.message
    assert not response.masks


def test_requests_and_stream_are_both_answered(active):
    """Ten requests at once beside a stream: each is answered, and images go on meanwhile."""
    client = active._client(Segment, "segment")
    active.wait(client.service_is_ready, "no service")
    active.answer(STREAMED)
    active.forget()
    futures = [client.call_async(request(points=ON_GREEN)) for _ in range(10)]

    def all_answered():
        active.send(STREAMED)
        return all(future.done() for future in futures)

    active.wait(all_answered, "a request was not answered")
    responses = [future.result() for future in futures]
    assert sum(response.success for response in responses) >= 8  # as many as may wait
    assert {r.message for r in responses if not r.success} <= {"too many requests wait already"}
    active.wait(lambda: active.received["masks"], "the stream stood still")
    values = active.fresh_health()[2]
    assert values["frames_failed"] == "0"
    assert len(active.answer(STREAMED).masks) == 2


def test_no_answer_hangs_whatever_the_state(robot, tiny_bundle):
    robot.start_node(model=tiny_bundle)
    assert ask(robot, points=ON_GREEN).message == "the node is not active"
    robot.activate()
    assert ask(robot, points=ON_GREEN).message == "no image has come yet"
    robot.answer(STREAMED)
    assert ask(robot, points=ON_GREEN).success
    assert robot.change(Transition.TRANSITION_DEACTIVATE)
    assert ask(robot, points=ON_GREEN).message == "the node is not active"
    assert robot.change(Transition.TRANSITION_ACTIVATE)
    assert ask(robot, points=ON_GREEN).message == "no image has come yet"  # none of an earlier life
    assert robot.stop_node() == 0
    assert not robot.said("Traceback"), robot.log.read_text()
