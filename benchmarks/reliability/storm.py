"""Parameters set a hundred times a second while frames flow: each message is of one configuration.

The scene has three objects. A configuration is a pair of values set together; under it exactly
two of the objects are found, and under a mixture of two configurations one or three.
"""

from __future__ import annotations

import argparse
import collections
import random
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.parameter import Parameter

from support.live import TIMEOUT_S, Robot
from support.messages import image_of, stamp_of

from .session import RearCamera, two_cameras

RATE_HZ = 100.0
MOST_WAITING = 8  # DDS keeps ten requests of a service, and lets go of older ones
FRAME_PERIOD_S = 1 / 30  # a camera's
BRIGHT, FAINT = 255, 160  # red of a prompt's dot: a confidence above and below the threshold
# Boxes of objects (x, y, width, height) with the red of their dots: small, middle, large.
OBJECTS = (((8, 8, 16, 16), BRIGHT), ((40, 8, 32, 32), FAINT), ((50, 60, 70, 60), BRIGHT))
CONFIGURATIONS = {
    "confident": {"asf.confidence_threshold": 0.85, "mask.min_area": 10},  # small and large
    "large": {"asf.confidence_threshold": 0.3, "mask.min_area": 600},  # middle and large
}
IMPOSSIBLE = (
    Parameter("asf.confidence_threshold", value=7.0),
    Parameter("asf.confidence_threshold", value=float("nan")),
    Parameter("asf.confidence_threshold", value="high"),
    Parameter("asf.filtering", value="guess"),
    Parameter("model", value="another"),
    Parameter("mask.min_area"),
    Parameter("no.such.parameter", value=1),
)


def three_objects() -> NDArray[np.uint8]:
    """Draw the objects, each with its dot."""
    rgb = np.zeros((128, 128, 3), np.uint8)
    for index, ((x, y, width, height), red) in enumerate(OBJECTS):
        colour = ((220, 60), (60, 220), (220, 220))[index]
        rgb[y : y + height, x : x + width, 1:] = colour
        cv2.circle(rgb, (x + width // 2, y + height // 2), 4, (red, *colour), -1)
    return rgb


@dataclass
class StormOutcome:
    """What was set and what came."""

    sets: int = 0
    late: int = 0  # that were not sent, as too many waited
    refused: int = 0
    wrongly_judged: int = 0  # sets refused that are possible, or taken that are not
    messages: collections.Counter[str] = field(default_factory=collections.Counter)
    compared: int = 0  # frames whose prompts came as well
    torn: int = 0  # of them, with prompts of another configuration than the masks'
    rear: RearCamera | None = None  # beside it, whose parameters stay


def _hear_only(robot: Robot, topics: tuple[str, ...]) -> None:
    """End the client's other subscriptions: images would take the time that sets need."""
    for subscription in list(robot.node.subscriptions):
        if not subscription.topic_name.endswith(topics):
            robot.node.destroy_subscription(subscription)


class Storm:
    """Sets parameters of an active node, and sorts its messages by configuration."""

    def __init__(self, robot: Robot, seed: int) -> None:
        """Learn what each configuration gives."""
        self.outcome = StormOutcome()
        self._robot = robot
        self._random = random.Random(seed)
        self._image = image_of(three_objects())
        self._prompts: dict[int, str] = {}
        self._known: dict[tuple[int, ...], str] = {}
        self._known_prompts: dict[int, str] = {}
        _hear_only(robot, ("/masks", "/prompts"))
        for name, values in CONFIGURATIONS.items():
            assert self._set_and_wait(values)
            robot.forget()
            masks = robot.answer(self._image)
            self._known[_areas(masks)] = name
            self._known_prompts[len(robot.answer(self._image, "prompts").prompts)] = name
        assert len(self._known) == len(self._known_prompts) == len(CONFIGURATIONS)

    def _set_and_wait(self, values: dict[str, Any]) -> bool:
        names = {name.replace(".", "__"): value for name, value in values.items()}
        return bool(self._robot.set_atomically(**names).successful)

    def run(self, seconds: float) -> StormOutcome:
        """Set and listen for so long, and until all was seen that the test is about."""
        robot = self._robot
        self._atomically = robot.client(SetParametersAtomically, "set_parameters_atomically")
        self._one_by_one = robot.client(SetParameters, "set_parameters")
        robot.wait(self._one_by_one.service_is_ready, "no service")
        self._waiting: list[tuple[Any, bool]] = []
        self._began = time.monotonic()
        timer = robot.node.create_timer(FRAME_PERIOD_S, lambda: robot.send(self._image))
        setter = robot.node.create_timer(1.0 / RATE_HZ, self._set_what_is_due)
        end = self._began + seconds
        while time.monotonic() < end or not self._seen_enough():
            assert time.monotonic() < end + TIMEOUT_S, self.outcome
            robot.forget()
            robot.spin(0.5)
            self._sort()
        robot.node.destroy_timer(setter)
        robot.node.destroy_timer(timer)
        for future, _ in self._waiting:
            robot.wait(future.done, "a set was not answered")
        self._judge()
        return self.outcome

    def _seen_enough(self) -> bool:
        outcome, seen = self.outcome, self.outcome.messages
        is_set = outcome.sets > 10 and outcome.refused > 0
        return is_set and min(seen[name] for name in CONFIGURATIONS) > 2 and outcome.compared > 5

    def _set_what_is_due(self) -> None:
        """Set as often as the time gone by asks for: a timer's delays must not lower the rate."""
        due = (time.monotonic() - self._began) * RATE_HZ
        while self.outcome.sets + self.outcome.late < due:
            self._set()

    def _set(self) -> None:
        """Set a configuration as a whole, or what has to be refused."""
        self._judge()
        if len(self._waiting) >= MOST_WAITING:
            self.outcome.late += 1
            return
        if self._random.random() < 0.8:
            values = self._random.choice(list(CONFIGURATIONS.values()))
            parameters = [Parameter(name, value=value) for name, value in values.items()]
            request: Any = SetParametersAtomically.Request(
                parameters=[parameter.to_parameter_msg() for parameter in parameters]
            )
            self._waiting.append((self._atomically.call_async(request), True))
        else:
            impossible = self._random.choice(IMPOSSIBLE).to_parameter_msg()
            request = SetParameters.Request(parameters=[impossible])
            self._waiting.append((self._one_by_one.call_async(request), False))
        self.outcome.sets += 1

    def _judge(self) -> None:
        """Compare the answers that came with what they must be."""
        done = [(future, possible) for future, possible in self._waiting if future.done()]
        self._waiting = [
            (future, possible) for future, possible in self._waiting if not future.done()
        ]
        for future, possible in done:
            answer = future.result()
            taken = (answer.result if possible else answer.results[0]).successful
            self.outcome.refused += not taken
            self.outcome.wrongly_judged += taken != possible

    def _sort(self) -> None:
        received = self._robot.received
        by_stamp = {}
        for message in received["masks"]:
            name = self._known.get(_areas(message), f"none: {_areas(message)}")
            self.outcome.messages[name] += 1
            by_stamp[stamp_of(message)] = name
        for message in received["prompts"]:
            if stamp_of(message) in by_stamp:
                self.outcome.compared += 1
                own = self._known_prompts.get(len(message.prompts))
                self.outcome.torn += own != by_stamp[stamp_of(message)]


def _areas(message: Any) -> tuple[int, ...]:  # noqa: ANN401  (a MaskArray)
    return tuple(mask.area for mask in message.masks)


def storm(seconds: float, seed: int = 0) -> StormOutcome:
    """Set parameters of a node of its own."""
    with two_cameras() as (robot, rear):
        outcome = Storm(robot, seed).run(seconds)
        rear.wait()
        outcome.rear = rear
        return outcome


def main() -> int:
    """Run and print the figures; 1 where a message is of no configuration."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    outcome = storm(options.seconds, options.seed)
    print(f"{outcome.sets} sets in {options.seconds:.0f} s, {outcome.refused} refused, "
          f"{outcome.wrongly_judged} judged wrongly, {outcome.late} left out")  # fmt: skip
    print(f"mask messages by configuration: {dict(outcome.messages)}")
    print(f"frames compared with their prompts: {outcome.compared}, torn: {outcome.torn}")
    print(outcome.rear and outcome.rear.line())
    return int(set(outcome.messages) != set(CONFIGURATIONS) or bool(outcome.torn))


if __name__ == "__main__":
    sys.exit(main())
