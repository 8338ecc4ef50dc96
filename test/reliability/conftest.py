"""What the reliability tests need."""

import pytest

pytestmark = pytest.mark.needs("rclpy")  # a ROS-free install tests the rest
