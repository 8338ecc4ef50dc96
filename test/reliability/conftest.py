"""What the reliability tests share: a client of their own."""

import pytest

pytestmark = pytest.mark.needs("rclpy")  # a ROS-free install tests the rest


@pytest.fixture
def robot(tmp_path):
    """A client with its own ROS domain, which can start the node; everything ends with the test."""
    from support.live import Robot

    with Robot(tmp_path) as client:
        yield client


@pytest.fixture
def robot_over_udp(robot):
    """The same, with a node that does not use shared memory: it is going to be killed."""
    from reliability.session import UDP_ALONE

    robot.environment.update(UDP_ALONE)
    return robot
