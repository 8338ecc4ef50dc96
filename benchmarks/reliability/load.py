"""More images than can be segmented: memory stays bounded, and results are of the newest frame."""

from __future__ import annotations

import argparse
import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.msg import MaskArray
from support.live import RELIABLE, TIMEOUT_S, Robot
from support.messages import image_of, stamp_of
from support.scenes import boxes_scene

from .session import (
    TWO_CAMERAS,
    Footprint,
    RearCamera,
    become_camera_and_planner,
    footprint,
    robot_with_node,
)

SIZE_4K = (2160, 3840)
VGA = (480, 640)
SETTLE_FRAMES = 5  # before memory counts: allocators and DDS reach their size


@dataclass
class LoadOutcome:
    """What one node did under a flood; times in seconds."""

    sent: int = 0
    latencies: list[float] = field(default_factory=list)  # from publication to masks
    intervals: list[float] = field(default_factory=list)  # between two results
    stale: int = 0  # results that are older than one before
    footprints: list[Footprint] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)  # the node's own

    def growth_mb(self) -> float:
        """Return the most that the node grew by after its first frames."""
        sizes = [seen.resident_mb for seen in self.footprints]
        return max(sizes) - sizes[0] if sizes else 0.0

    def line(self) -> str:
        """Return the figures."""
        p50, p95, most = (1e3 * np.quantile(self.latencies, q) for q in (0.5, 0.95, 1.0))
        every50, every95 = (1e3 * np.quantile(self.intervals, q) for q in (0.5, 0.95))
        memory = [seen.resident_mb for seen in self.footprints]
        return (
            f"{self.sent} sent, {len(self.latencies)} results; latency p50 {p50:.0f} p95 {p95:.0f} "
            f"most {most:.0f} ms; a result every {every50:.0f} (p95 {every95:.0f}) ms; "
            f"stale {self.stale}; memory {memory[0]:.0f} to {max(memory):.0f} MB; {self.counts}"
        )


class Flood:
    """Publishes one image at a steady rate, and takes the time until its masks come."""

    def __init__(self, robot: Robot, rgb: NDArray[np.uint8]) -> None:
        """Prepare."""
        self.outcome = LoadOutcome()
        self._robot = robot
        self._image = image_of(rgb)
        self._sent: dict[int, float] = {}
        self._newest = 0
        self._last = 0.0
        become_camera_and_planner(robot)
        robot.node.create_subscription(MaskArray, "/aopsam/masks", self._on_masks, RELIABLE)

    def service_s(self, count: int = 7) -> float:
        """Return how long one image takes, alone."""
        times = []
        for _ in range(count):
            begin = time.monotonic()
            self._robot.answer(self._image)
            times.append(time.monotonic() - begin)
        self._robot.forget()
        return float(np.median(times))

    def run(self, period_s: float, seconds: float, least: int = 0) -> LoadOutcome:
        """Publish for so long, and until so many results came."""
        robot = self._robot
        self._sent.clear()
        self.outcome = LoadOutcome()
        self._last = 0.0
        timer = robot.node.create_timer(period_s, self._send)
        end = time.monotonic() + seconds
        while time.monotonic() < end or len(self.outcome.latencies) < least:
            is_late = time.monotonic() > end + 4 * TIMEOUT_S
            assert not is_late, f"only {len(self.outcome.latencies)} results"
            robot.forget()
            robot.spin(0.2)
            if len(self.outcome.latencies) > SETTLE_FRAMES:
                self.outcome.footprints.append(footprint(robot.process.pid))
        robot.node.destroy_timer(timer)
        robot.wait(self._all_done, "images are unaccounted for")
        return self.outcome

    def _all_done(self) -> bool:
        """Read the node's counts; tell whether every image is among them."""
        values = self._robot.fresh_health()[2]
        names = ("received", "segmented", "dropped", "failed")
        self.outcome.counts = {name: int(values[f"frames_{name}"]) for name in names}
        received, *finished = self.outcome.counts.values()
        return received == sum(finished)

    def _send(self) -> None:
        self._sent[self._robot.send(self._image).nanosec] = time.monotonic()
        self.outcome.sent += 1

    def _on_masks(self, message: Any) -> None:  # noqa: ANN401
        now, stamp = time.monotonic(), stamp_of(message)
        if stamp not in self._sent:
            return
        self.outcome.latencies.append(now - self._sent[stamp])
        self.outcome.stale += stamp < self._newest
        self._newest = stamp
        if self._last:
            self.outcome.intervals.append(now - self._last)
        self._last = now


def large_scene(size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the tests' scene, enlarged to height and width."""
    scaled = cv2.resize(boxes_scene(), size[::-1], interpolation=cv2.INTER_NEAREST)
    return np.ascontiguousarray(scaled)


def overload(
    size: tuple[int, int],
    factor: float,
    seconds: float,
    least: int = 0,
    **parameters: Any,  # noqa: ANN401
) -> LoadOutcome:
    """Send images at `factor` times the rate that a node of its own segments them at."""
    with robot_with_node(**parameters) as robot:
        flood = Flood(robot, large_scene(size))
        return flood.run(flood.service_s() / factor, seconds, least)


def on_one_model(
    size: tuple[int, int],
    rate: float,
    seconds: float,
    **parameters: Any,  # noqa: ANN401
) -> tuple[LoadOutcome, RearCamera]:
    """Have two cameras of this rate at one model."""
    with robot_with_node(*TWO_CAMERAS, **parameters) as robot:
        flood = Flood(robot, large_scene(size))
        rear = RearCamera(robot, 1 / rate, image_of(large_scene(size)))
        rear.activate()
        return flood.run(1 / rate, seconds), rear


def several(cameras: int, size: tuple[int, int], rate: float, seconds: float,
            **parameters: Any) -> list[LoadOutcome]:  # noqa: ANN401  # fmt: skip
    """Have as many nodes as cameras at work at once, each with a camera of this rate."""
    outcomes: list[LoadOutcome] = []
    with contextlib.ExitStack() as stack:
        floods = [
            Flood(stack.enter_context(robot_with_node(**parameters)), large_scene(size))
            for _ in range(cameras)
        ]
        threads = [
            threading.Thread(target=lambda f=flood: outcomes.append(f.run(1 / rate, seconds)))
            for flood in floods
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return outcomes


def main() -> None:
    """Run and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each of the four")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--rate", type=float, default=30.0, help="of each of the four cameras")
    options = parser.parse_args()
    seconds, parameters = options.seconds, {"model": options.model, "threads": 1}
    runs: dict[str, Callable[[], list[LoadOutcome]]] = {
        "10 times the rate, 640x480": lambda: [overload(VGA, 10.0, seconds, **parameters)],
        "4K frames, twice the rate": lambda: [overload(SIZE_4K, 2.0, seconds, **parameters)],
        f"four cameras, 640x480 at {options.rate:g} Hz": lambda: several(
            4, VGA, options.rate, seconds, **parameters
        ),
    }
    for name, run in runs.items():
        for outcome in run():
            print(f"{name}: {outcome.line()}", flush=True)
    outcome, rear = on_one_model(VGA, options.rate, seconds, **parameters)
    print(
        f"two cameras on one model, 640x480 at {options.rate:g} Hz: {outcome.line()}; {rear.line()}"
    )


if __name__ == "__main__":
    main()
