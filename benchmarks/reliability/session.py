"""A client beside an active node with the tests' tiny bundle, and what the system says of it."""

from __future__ import annotations

import contextlib
import copy
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from aopsam_ros.msg import MaskArray
from support.live import RELIABLE, Robot
from support.messages import image_of, stamp_of
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


# Of the node: a process for two cameras, the robot's own and one in the namespace `rear`.
TWO_CAMERAS = ("--", "--cameras", "/,rear", "--ros-args")
REAR_PERIOD_S = 0.1


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
        if robot.state() == State.PRIMARY_STATE_ACTIVE:  # a plain node is from its start on
            robot.wait_for_subscription()
        else:
            robot.activate()
        yield robot


class RearCamera:
    """A second camera of the node's process, on the same model; it goes on whatever the first does.

    Attributes:
        sent: images.
        answered: images that masks came for.
        wrong: of them, with other masks than the first.
        newest: the number of the newest image that is answered.
        longest_s: the longest time without masks since the first.
        latencies: from publication to masks, seconds.
    """

    def __init__(self, robot: Robot, period_s: float = REAR_PERIOD_S, image: Image = GOOD) -> None:
        self.sent = self.answered = self.wrong = self.newest = 0
        self.longest_s, self.latencies = 0.0, list[float]()
        self._robot, self._image = robot, copy.deepcopy(image)
        self._expected: list[list[int]] | None = None
        self._last_s = 0.0
        self._sent_s: dict[int, float] = {}
        self._images = robot.node.create_publisher(Image, "/rear/image", CAMERA)
        robot.node.create_subscription(MaskArray, "/rear/aopsam/masks", self._on_masks, RELIABLE)
        robot.node.create_timer(period_s, self._send)

    def activate(self) -> None:
        """Configure and activate its node; wait for the first masks."""
        client = self._robot.node.create_client(ChangeState, "/rear/aopsam/change_state")
        self._robot.wait(client.service_is_ready, "no second node")
        self._robot.wait_until_known()
        for step in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            future = client.call_async(ChangeState.Request(transition=Transition(id=step)))
            self._robot.wait(future.done, "the second node did not answer")
            assert future.result().success
        self.wait()

    def wait(self) -> None:
        """Wait for the next masks."""
        before = self.answered
        self._robot.wait(lambda: self.answered > before, "no masks of the second camera")

    def line(self) -> str:
        """Return the figures."""
        times = 1e3 * np.quantile(self.latencies, (0.5, 0.95))
        return (
            f"second camera: {self.sent} sent, {self.answered} answered, {self.wrong} wrongly; "
            f"latency p50 {times[0]:.0f} p95 {times[1]:.0f} ms; "
            f"at most {self.longest_s:.1f} s without masks"
        )

    def _send(self) -> None:
        self.sent += 1
        self._image.header.stamp.nanosec = self.sent
        self._sent_s[self.sent] = time.monotonic()
        self._sent_s.pop(self.sent - 1000, None)
        self._images.publish(self._image)

    def _on_masks(self, message: Any) -> None:  # noqa: ANN401  (a MaskArray)
        now, counts = time.monotonic(), counts_of(message)
        if self._expected is None:
            self._expected, self._last_s = counts, now
        self.answered += 1
        self.wrong += counts != self._expected
        self.longest_s, self._last_s = max(self.longest_s, now - self._last_s), now
        self.newest = stamp_of(message)
        self.latencies.append(now - self._sent_s.get(self.newest, now))


@contextlib.contextmanager
def two_cameras(**parameters: Any) -> Iterator[tuple[Robot, RearCamera]]:  # noqa: ANN401
    """Do the same with a process for two cameras; the second one is at work."""
    with robot_with_node(*TWO_CAMERAS, **parameters) as robot:
        rear = RearCamera(robot)
        rear.activate()
        yield robot, rear


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
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) as process:
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
