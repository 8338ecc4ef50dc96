"""A node killed under launch comes back, where `launch` is installed."""

import os
import signal

import pytest
from reliability.session import UDP_ALONE

from support.messages import image_of
from support.scenes import boxes_scene

pytest.importorskip("launch")
pytest.importorskip("launch_ros")


def test_a_node_killed_while_it_works_is_started_again_by_launch(robot, tiny_folder, root):
    robot.environment.update(UDP_ALONE)  # no shared memory, as it is going to be killed
    file = root / "launch" / "cpu.launch.py"
    robot.launch(file, f"model:={tiny_folder}", "use_respawn:=true")
    nodes = [_working_node(robot)]
    for _ in range(2):
        os.kill(nodes[-1], signal.SIGKILL)
        nodes.append(_working_node(robot))
    assert len(set(nodes)) == 3
    # Not before the last one works: what launch is just starting when it ends, it leaves running.
    robot.stop_node()


def _working_node(robot):
    """Wait until a node answers an image with masks; its process."""
    robot.answer(image_of(boxes_scene()))
    (node,) = robot.children()
    return node
