"""The node that most live tests share."""

import pytest

pytestmark = pytest.mark.needs("rclpy")  # a ROS-free install tests the rest


@pytest.fixture(scope="session")
def shared_robot(tmp_path_factory):
    """A client whose node serves many tests."""
    from support.live import Robot

    with Robot(tmp_path_factory.mktemp("node")) as client:
        yield client


@pytest.fixture
def context():
    """A ROS context of its own, for nodes in this process."""
    import rclpy

    from support.live import free_domain

    context = rclpy.Context()
    domain, claim = free_domain()
    rclpy.init(context=context, domain_id=domain)
    yield context
    context.try_shutdown()
    claim.close()


@pytest.fixture
def active(shared_robot, tiny_folder):
    """A client beside an active node with the tiny bundle and the default parameters.

    Most of a live test's time would be the start of the process: tests share it, and leave the node
    in any state and with any parameters that `restore` can undo.
    """
    if not shared_robot.is_running():
        shared_robot.start_node(model=tiny_folder)
    shared_robot.restore()
    shared_robot.log.write_text("")
    shared_robot.spin(0.05)  # results of the test before
    shared_robot.forget()
    return shared_robot
