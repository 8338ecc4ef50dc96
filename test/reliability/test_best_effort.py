"""Images of a camera that never sends anything twice."""

import time

import pytest
from reliability.session import bystander

from aopsam_ros.ros.resources import large_message_environment

SENT, ENOUGH = 18, 12  # without the settings nine of ten are lost
LOST_S = 10.0  # without an answer; far beyond what it takes, for a busy machine


@pytest.mark.skipif(not large_message_environment(), reason="own Fast DDS settings")
def test_large_images_get_through_with_the_shipped_settings(robot, tiny_folder):
    robot.start_node(model=tiny_folder)
    robot.activate()
    arguments = ["--size", "1000000", "--asked", "--best-effort"]
    with bystander(robot, "camera", *arguments, **large_message_environment()) as camera:
        robot.wait(lambda: is_answered(robot, camera), "no masks")  # it knows the camera now
        robot.forget()
        answered = sum(is_answered(robot, camera) for _ in range(SENT))
    assert answered >= ENOUGH


def is_answered(robot, camera):
    """Ask for an image, and tell whether masks come; only then for another: none is dropped."""
    before = len(robot.received["masks"])
    camera.stdin.write("\n")
    camera.stdin.flush()
    end = time.monotonic() + LOST_S
    while len(robot.received["masks"]) == before and time.monotonic() < end:
        robot.spin(0.02)
    return len(robot.received["masks"]) > before
