"""Malformed images, calibrations, depth, boxes and requests; valid frames between are answered."""

from __future__ import annotations

import argparse
import collections
import random
import re
import sys
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from sensor_msgs.msg import CameraInfo, Image
from vision_msgs.msg import Detection2DArray, Detection3DArray

from aopsam_ros.ros.monitoring.logs import kind_of
from support.live import RELIABLE, Robot

from . import malformed
from .session import GOOD, Footprint, RearCamera, counts_of, footprint, two_cameras

TOPICS = {
    "image": Image,
    "camera_info": CameraInfo,
    "depth": Image,
    "boxes": Detection2DArray,
}
EVERY = 20  # messages, a valid frame
PAUSE_S = 0.003  # for the worker to look at an image before the next one replaces it
_RCLPY_S_OWN = "Unable to start transition"  # Kilted's, of every impossible transition
_LINE = re.compile(r"\[(WARN|ERROR|FATAL)\] \[([\d.]+)\] \[aopsam\]: (.*)")


@dataclass
class FuzzOutcome:
    """What was sent, what came back, and what the node said."""

    sent: collections.Counter[str] = field(default_factory=collections.Counter)
    answered: int = 0  # requests
    refused: int = 0  # of them
    unclear: list[str] = field(default_factory=list)  # refusals without a reason in one line
    wrong: int = 0  # valid frames whose masks were others
    failed: int = 0  # images that the node looked at and gave up
    said: dict[str, list[float]] = field(default_factory=dict)  # kind: times
    tracebacks: int = 0
    footprints: list[Footprint] = field(default_factory=list)  # after each valid frame
    rear: RearCamera | None = None  # beside all of it

    def closest_s(self) -> float:
        """Return the shortest time between two lines of one kind."""
        gaps = [b - a for times in self.said.values() for a, b in pairwise(times)]
        return min(gaps, default=float("inf"))


class Fuzzer:
    """Sends malformed messages to an active node, and valid ones between them."""

    def __init__(self, robot: Robot, seed: int, wire: bool) -> None:
        """Prepare; with `wire`, every other message is broken below the level of its fields."""
        self.outcome = FuzzOutcome()
        self._robot = robot
        self._random = random.Random(seed)
        self._wire = wire
        node = robot.node
        self._publishers = {
            topic: node.create_publisher(kind, f"/{topic}", RELIABLE)
            for topic, kind in TOPICS.items()
        }
        node.create_subscription(Detection3DArray, "/aopsam/detections_3d", lambda _: None, 1)
        self._clients = {
            name: robot.client(kind, name) for name, (kind, _) in malformed.REQUESTS.items()
        }
        robot.wait(self._publishers["depth"].get_subscription_count, "depth is not listened to")
        self._expected = counts_of(robot.answer(GOOD))

    def run(self, count: int) -> FuzzOutcome:
        """Send `count` malformed messages of all kinds in turn."""
        kinds = [*malformed.MAKERS, *malformed.REQUESTS]
        for number in range(count):
            kind = kinds[number % len(kinds)]
            if kind in malformed.MAKERS:
                self._send(kind, malformed.MAKERS[kind](self._random))
            else:
                self._ask(kind, malformed.REQUESTS[kind][1](self._random))
            self.outcome.sent[kind] += 1
            if number % EVERY == EVERY - 1:
                self._check()
        self._check()
        self.outcome.failed = int(self._robot.fresh_health()[2]["frames_failed"])
        self._read_log()
        return self.outcome

    def _send(self, kind: str, message: Any) -> None:  # noqa: ANN401
        if hasattr(message, "header"):  # so that depth and boxes are this image's
            message.header.stamp.sec, message.header.stamp.nanosec = 1_700_000_000, 1
        broken = self._wire and self._random.random() < 0.5
        content = malformed.wire(self._random, message) if broken else message
        self._publishers[kind].publish(content)
        self._robot.spin(PAUSE_S)

    def _ask(self, kind: str, request: Any) -> None:  # noqa: ANN401
        future = self._clients[kind].call_async(request)
        self._robot.wait(future.done, f"a request was not answered: {kind}, {str(request)[:500]}")
        self.outcome.answered += 1
        response = future.result()
        # As reasons: those of parameters, of our own services, or none.
        results = getattr(response, "results", [getattr(response, "result", response)])
        for result in results:
            taken = getattr(result, "successful", getattr(result, "success", True))
            self.outcome.refused += not taken
            reason = getattr(result, "reason", getattr(result, "message", "a state"))
            if not taken and (not reason or "\n" in reason):
                self.outcome.unclear.append(f"{kind}: {reason[:200]}")

    def _check(self) -> None:
        """Send a valid image and compare its masks."""
        self._robot.forget()
        self.outcome.footprints.append(footprint(self._robot.process.pid))
        self.outcome.wrong += counts_of(self._robot.answer(GOOD)) != self._expected

    def _read_log(self) -> None:
        text = self._robot.log.read_text()
        self.outcome.tracebacks = text.count("Traceback")
        for match in _LINE.finditer(text):
            if match[3].startswith(_RCLPY_S_OWN):
                continue
            times = self.outcome.said.setdefault(kind_of(match[3]), [])
            times.append(float(match[2]))


def fuzz(count: int, seed: int = 0, wire: bool = False, **parameters: Any) -> FuzzOutcome:  # noqa: ANN401
    """Send malformed messages to a node of its own.

    Raises:
        AssertionError: if the node ends, or leaves a valid frame or a request unanswered for
            `TIMEOUT_S` seconds.
    """
    # Images do not wait long for depth that never fits.
    with two_cameras(**{"pairing__timeout_ms": 20, **parameters}) as (robot, rear):
        outcome = Fuzzer(robot, seed, wire).run(count)
        assert robot.process.poll() is None
        outcome.rear = rear
        return outcome


def main() -> int:
    """Run and print the figures; 1 where one is not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--wire", action="store_true", help="break bytes, too, not only fields")
    options = parser.parse_args()
    outcome = fuzz(options.count, options.seed, options.wire)
    print(f"sent: {dict(outcome.sent)}; images looked at and given up: {outcome.failed}")
    print(f"requests answered: {outcome.answered}, of them refused: {outcome.refused}, "
          f"unclear reasons: {outcome.unclear}")  # fmt: skip
    for seen in outcome.footprints[:: max(1, len(outcome.footprints) // 10)]:
        print(f"  {seen.resident_mb:.1f} MB, {seen.threads} threads, {seen.files} files")
    print(outcome.rear and outcome.rear.line())
    print(f"valid frames with wrong masks: {outcome.wrong}; tracebacks: {outcome.tracebacks}")
    print(
        f"kinds of warnings: {len(outcome.said)}, closest two of a kind {outcome.closest_s():.1f} s"
    )
    for kind, times in sorted(outcome.said.items()):
        print(f"  {len(times):4} {kind[:150]}")
    return int(bool(outcome.wrong))


if __name__ == "__main__":
    sys.exit(main())
