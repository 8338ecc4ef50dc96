"""What the ROS tests share: a tiny bundle, and the node in a process of its own."""

import importlib.util

import pytest

if importlib.util.find_spec("rclpy") is None:  # a ROS-free install tests the rest
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory):
    """The folder of a bundle of a few kilobytes."""
    from support.tiny_bundle import write_tiny_bundle

    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture
def robot(tmp_path):
    """A client with its own ROS domain, which can start the node; everything ends with the test."""
    from support.live import Robot

    with Robot(tmp_path) as client:
        yield client


@pytest.fixture(scope="module")
def active(tmp_path_factory, tiny_bundle):
    """A client beside an active node with the tiny bundle, shared by the tests of a module."""
    from support.live import Robot

    with Robot(tmp_path_factory.mktemp("node")) as client:
        client.start_node(model=tiny_bundle)
        client.activate()
        yield client


@pytest.fixture(autouse=True)
def nothing_left_over(request):
    """Forget what arrived during an earlier test of the module."""
    if "active" in request.fixturenames:
        client = request.getfixturevalue("active")
        client.spin(0.05)
        client.forget()
