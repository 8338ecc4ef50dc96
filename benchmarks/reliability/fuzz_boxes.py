"""A detector's boxes with impossible numbers: those of the next image are taken."""

from __future__ import annotations

import argparse
import random
from dataclasses import dataclass

from rclpy.publisher import Publisher
from vision_msgs.msg import Detection2D, Detection2DArray

from support.live import RELIABLE, Robot

from . import malformed
from .session import GOOD, robot_with_node

EVERY = 5  # pairs, a valid one


@dataclass
class BoxFuzzOutcome:
    """What was sent, and what became of it."""

    sent: int = 0
    valid: int = 0  # pairs that are, and were answered
    failed: int = 0  # images that the node gave up
    tracebacks: int = 0


def valid_boxes() -> Detection2DArray:
    """Return a box around an object of the scene."""
    detection = Detection2D()
    detection.bbox.center.position.x, detection.bbox.center.position.y = 40.0, 40.0
    detection.bbox.size_x, detection.bbox.size_y = 40.0, 20.0
    return Detection2DArray(detections=[detection])


def fuzz_boxes(count: int, seed: int = 0, least: int = 0) -> BoxFuzzOutcome:
    """Send images with malformed boxes of their stamps to a node of its own, in steps.

    So many as `count`, and until so many as `least` were given up: the newest replaces one that
    waits.
    """
    rng, outcome = random.Random(seed), BoxFuzzOutcome()
    with robot_with_node(prompt_source="boxes") as robot:
        publisher = robot.node.create_publisher(Detection2DArray, "/boxes", RELIABLE)
        robot.wait(publisher.get_subscription_count, "boxes are not listened to")
        while outcome.sent < count or outcome.failed < least:
            _pair(robot, publisher, malformed.boxes(rng))
            outcome.sent += 1
            robot.spin(0.003)
            if outcome.sent % EVERY == 0:
                _answered(robot, publisher)
                outcome.valid += 1
            if outcome.sent >= count:
                outcome.failed = int(robot.fresh_health()[2]["frames_failed"])
        outcome.tracebacks = robot.log.read_text().count("Traceback")
    return outcome


def _pair(robot: Robot, publisher: Publisher, boxes: Detection2DArray) -> None:
    boxes.header.stamp = robot.send(GOOD)
    publisher.publish(boxes)


def _answered(robot: Robot, publisher: Publisher) -> None:
    """Send valid pairs until masks come."""
    robot.forget()

    def answered() -> bool:
        _pair(robot, publisher, valid_boxes())
        robot.spin(0.1)
        return any(message.masks for message in robot.received["masks"])

    robot.wait(answered, "a valid pair was not answered")


def main() -> None:
    """Run and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(fuzz_boxes(options.count, options.seed))


if __name__ == "__main__":
    main()
