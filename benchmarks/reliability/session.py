"""A client beside an active node with the tests' tiny bundle, and what the system says of it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from aopsam_ros.msg import MaskArray
from support.live import Robot
from support.messages import image_of
from support.scenes import boxes_scene
from support.tiny_bundle import write_tiny_bundle

GOOD = image_of(boxes_scene())
# As a camera's driver should: with more, the wire is busy with frames that are old.
CAMERA = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
# The environment of a process that neither hears nor speaks through shared memory: there a process
# that was killed leaves a port which Fast DDS's writers sometimes go on to write into, so that the
# next process is never served (eProsima/Fast-DDS#5469). FASTDDS_BUILTIN_TRANSPORTS does not count
# where the discovery's range is LOCALHOST.
UDP_ALONE = {
    "FASTRTPS_DEFAULT_PROFILES_FILE": str(Path(__file__).with_name("udp_alone.xml")),
    "ROS_AUTOMATIC_DISCOVERY_RANGE": "SYSTEM_DEFAULT",
}


def become_camera_and_planner(robot: Robot) -> None:
    """Let a robot send as a camera does, and listen to masks alone; large images need that."""
    for subscription in list(robot.node.subscriptions):
        if subscription.topic_name.startswith("/aopsam/"):
            robot.node.destroy_subscription(subscription)
    robot.listen("masks", MaskArray)
    robot.node.destroy_publisher(robot.images)
    robot.images = robot.node.create_publisher(Image, "/image", CAMERA)
    robot.wait_for_subscription()


@contextlib.contextmanager
def robot_with_node(*arguments: str, **parameters: Any) -> Iterator[Robot]:  # noqa: ANN401
    """Start the node and activate it; everything ends with the context."""
    with tempfile.TemporaryDirectory(prefix="aopsam_") as folder, Robot(Path(folder)) as robot:
        model = write_tiny_bundle(Path(folder) / "tiny")
        robot.start_node(*arguments, **{"model": model, **parameters})
        robot.activate()
        yield robot


@contextlib.contextmanager
def bystander(
    robot: Robot, role: str, *arguments: str, **variables: str
) -> Iterator[subprocess.Popen[str]]:
    """Run another process of the robot's domain, a camera or a listener; it is killed in the end.

    Args:
        robot: whose domain it is.
        role: see `bystander`, the module.
        arguments: its options.
        variables: in its environment.
    """
    environment = {**os.environ, "ROS_DOMAIN_ID": str(robot.domain), **variables}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, "-m", "reliability.bystander", role, *arguments]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout is None or process.stdout.readline() != "ready\n":
                raise RuntimeError(f"the {role} did not start")
            yield process
        finally:
            process.kill()


@dataclass(frozen=True)
class Footprint:
    """What a process occupies."""

    resident_mb: float
    threads: int
    files: int


def footprint(pid: int) -> Footprint:
    """Read it from /proc."""
    process = Path(f"/proc/{pid}")
    lines = (process / "status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return Footprint(
        resident_mb=int(fields["VmRSS"].split()[0]) / 1024,
        threads=int(fields["Threads"]),
        files=len(list((process / "fd").iterdir())),
    )


def counts_of(message: Any) -> list[list[int]]:  # noqa: ANN401  (a MaskArray)
    """Return the masks of a message as plain lists."""
    return [mask.counts.tolist() for mask in message.masks]
