"""A node killed under launch comes back, where `launch` is installed."""

import os
import signal
import subprocess
import sys

import pytest
from live import TIMEOUT_S, image_of, scene

pytest.importorskip("launch")
pytest.importorskip("launch_ros")

from test_launch import FOLDER, RUN, children


def test_a_node_killed_while_it_works_is_started_again_by_launch(robot_over_udp, tiny_folder):
    robot = robot_over_udp
    arguments = [f"model:={tiny_folder}", "use_respawn:=true"]
    words = [sys.executable, "-c", RUN, str(FOLDER / "cpu.launch.py"), *arguments]
    environment = {**os.environ, "ROS_DOMAIN_ID": str(robot.domain), **robot.environment}
    with robot.log.open("a") as log:
        robot.process = subprocess.Popen(words, env=environment, stdout=log, stderr=log)
    nodes = set()
    for _ in range(2):
        robot.forget()
        robot.wait(lambda: _answered(robot), "no masks", 4 * TIMEOUT_S)
        (node,) = children(robot.process.pid)
        nodes.add(node)
        os.kill(node, signal.SIGKILL)
    robot.wait(lambda: children(robot.process.pid) - nodes, "it is not started again")
    assert len(nodes) == 2
    robot.stop_node()


def _answered(robot):
    robot.send(image_of(scene()))
    robot.spin(0.2)
    return robot.received["masks"]
