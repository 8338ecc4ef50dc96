"""What the reliability tests share: a client of their own."""

import importlib.util

import pytest

if importlib.util.find_spec("rclpy") is None:  # a ROS-free install tests the rest
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture
def robot(tmp_path):
    """A client with its own ROS domain, which can start the node; everything ends with the test."""
    from live import Robot

    with Robot(tmp_path) as client:
        yield client


@pytest.fixture
def over_udp(monkeypatch):
    """Messages go over UDP alone; to be asked for before the client is made.

    A process killed with -9 leaves a port in shared memory that Fast DDS's writers sometimes go
    on to write into, so that the next process is never served (eProsima/Fast-DDS#5469). What is
    tested is the node.
    """
    monkeypatch.setenv("FASTDDS_BUILTIN_TRANSPORTS", "UDPv4")
