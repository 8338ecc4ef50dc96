"""What the reliability tests share."""

import pytest

pytestmark = pytest.mark.needs("rclpy")  # a ROS-free install tests the rest


@pytest.fixture
def robot_over_udp(robot):
    """The same, with a node that does not use shared memory: it is going to be killed."""
    from reliability.session import UDP_ALONE

    robot.environment.update(UDP_ALONE)
    return robot
