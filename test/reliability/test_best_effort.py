"""Images of a camera that never sends anything twice."""

import pytest
from reliability.session import bystander

from aopsam_ros.ros.resources import large_message_environment

ENOUGH = 12
LOST = 6  # at most; without the settings nine of ten are


@pytest.mark.skipif(not large_message_environment(), reason="own Fast DDS settings")
def test_large_images_get_through_with_the_shipped_settings(robot, tiny_folder):
    robot.start_node(model=tiny_folder)
    robot.activate()
    arguments = ["--size", "1000000", "--period", "0.15", "--best-effort"]
    with bystander(robot, "camera", *arguments, **large_message_environment()):
        masks = robot.received["masks"]
        robot.wait(lambda: masks, "no masks")
        first = int(masks[0].header.frame_id)
        robot.wait(lambda: len(masks) >= ENOUGH, "images are lost")
    assert int(masks[ENOUGH - 1].header.frame_id) - first < ENOUGH + LOST
