"""The node on rclpy's executor of events, where it works."""

import importlib.metadata

import pytest
from sensor_msgs.msg import Image

from aopsam_ros.ros.lifecycle import events_executor_waits
from aopsam_ros.srv import Segment
from support.live import TIMEOUT_S
from support.messages import image_of
from support.scenes import boxes_scene

HAS_EVENTS = events_executor_waits(importlib.metadata.version("rclpy"))


def test_releases_whose_executor_leaves_coroutines_are_known():
    """Humble; Jazzy, whose 7.1.11 has the mended one; Kilted, from 9.1.2; Lyrical."""
    releases = ("3.3.15", "7.1.10.post1", "7.1.11", "8.0.0", "9.1.1", "9.1.2", "10.0.10")
    fit = [release for release in releases if events_executor_waits(release)]
    assert fit == ["7.1.11", "9.1.2", "10.0.10"]


@pytest.mark.skipif(not HAS_EVENTS, reason="this rclpy has none")
def test_a_whole_life_on_events(robot, tiny_folder):
    robot.start_node(model=tiny_folder, executor="events")
    for _ in range(2):
        robot.activate()
        assert len(robot.answer(image_of(boxes_scene())).masks) == 2
        robot.clean_up()
    robot.activate()
    assert robot.set(asf__confidence_threshold=0.99) == []
    assert robot.answer(image_of(boxes_scene())).masks == []
    for _ in range(3):  # answered by a worker's thread
        response = robot.call(Segment, "segment", Segment.Request(points=[40.0, 40.0]))
        assert response.success, response.message
    robot.send(Image(height=4, width=4, encoding="unheard of"))
    robot.wait(lambda: robot.logged("is not supported"), "no warning")
    assert robot.stop_node() == 0
    assert not robot.logged("Traceback"), robot.log.read_text()


@pytest.mark.skipif(HAS_EVENTS, reason="this rclpy has one")
def test_without_one_the_reason_is_said(robot):
    robot.start_node(executor="events", wait=False)
    assert robot.process.wait(TIMEOUT_S) == 1
    assert robot.logged("executor 'events' needs rclpy 9.1.2 (Kilted), 7.1.11 (Jazzy) or later")


def test_an_unknown_one_is_refused(robot):
    robot.start_node(executor="many", wait=False)
    assert robot.process.wait(TIMEOUT_S) == 1
    assert robot.logged("executor 'many' is not available: use single or events")
