"""Two cameras at full rate for half an hour: memory, threads and files stay as they are."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence

import numpy as np

from support.live import Robot
from support.messages import calibration_of, image_of

from .load import VGA, large_scene
from .session import (
    TWO_CAMERAS,
    Footprint,
    RearCamera,
    become_camera_and_planner,
    footprint,
    robot_with_node,
)

SAMPLE_S = 5.0
SHOWN = 15  # samples, to see the trend's shape
SETTLE_SHARE = 0.2  # of the samples, that come before memory has settled


def soak(seconds: float, rate: float, model: str) -> tuple[list[Footprint], Robot, RearCamera]:
    """Send images at a steady rate; the footprints, one every few seconds, and both cameras."""
    seen = []
    image, calibration = image_of(large_scene(VGA)), calibration_of(*VGA[::-1])
    with robot_with_node(*TWO_CAMERAS, model=model, threads=1) as robot:
        become_camera_and_planner(robot)
        rear = RearCamera(robot, 1.0 / rate, image)
        rear.activate()

        def send() -> None:
            robot.send(image)
            robot.infos.publish(calibration)

        robot.node.create_timer(1.0 / rate, send)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            robot.forget()
            robot.diagnostics[:] = robot.diagnostics[-3:]
            rear.latencies[:] = rear.latencies[-1000:]
            robot.spin(SAMPLE_S)
            assert robot.process.poll() is None, "the node ended"
            seen.append(footprint(robot.process.pid))
        robot.last_values = robot.fresh_health()[2]
    return seen, robot, rear


def slope_mb_an_hour(sizes: Sequence[float], period_s: float = SAMPLE_S) -> float:
    """Return the trend of sizes that were taken every `period_s` seconds."""
    return float(np.polyfit(np.arange(len(sizes)) * period_s / 3600.0, sizes, 1)[0])


def report(seen: Sequence[Footprint], robot: Robot, rear: RearCamera) -> None:
    """Print the figures."""
    settled = seen[int(SETTLE_SHARE * len(seen)) :]
    for name in ("resident_mb", "threads", "files"):
        values = [getattr(sample, name) for sample in seen]
        steady = [getattr(sample, name) for sample in settled]
        print(f"{name}: first {values[0]:.1f}, then {min(steady):.1f} to {max(steady):.1f}, "
              f"trend {slope_mb_an_hour(steady):+.2f} an hour")  # fmt: skip
    step = max(1, len(seen) // SHOWN)
    print("resident_mb over time:", *(f"{sample.resident_mb:.1f}" for sample in seen[::step]))
    names = ("frames_received", "frames_segmented", "frames_dropped", "frames_failed")
    values = robot.last_values
    print({name: values[name] for name in (*names, "latency_p50_ms", "latency_p95_ms")})
    print(rear.line())
    print(f"load average of the machine: {os.getloadavg()}")


def main() -> None:
    """Run and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=30.0, help="images a second, of each camera")
    parser.add_argument("--model", default="nano")
    options = parser.parse_args()
    report(*soak(60.0 * options.minutes, options.rate, options.model))


if __name__ == "__main__":
    main()
