"""The process of two nodes killed while they work and started again, while the cameras go on."""

from __future__ import annotations

import argparse
import signal
import statistics
import tempfile
import time
from pathlib import Path

from support.live import Robot
from support.messages import stamp_of
from support.tiny_bundle import write_tiny_bundle

from .session import GOOD, TWO_CAMERAS, UDP_ALONE, RearCamera

FLOOD = 20  # images on their way at the moment of the kill
FRAME_PERIOD_S = 0.1
PATIENCE_S = 60.0


def kill(times: int) -> list[float | None]:
    """Return how many seconds each new process took to answer an image of either camera.

    From the start of the process on; None: it was never served.
    """
    taken = []
    with tempfile.TemporaryDirectory(prefix="aopsam_") as folder, Robot(Path(folder)) as robot:
        model = write_tiny_bundle(Path(folder) / "tiny")
        robot.environment.update(UDP_ALONE)
        rear = RearCamera(robot)
        robot.start_node(*TWO_CAMERAS, model=model, autostart=True)
        _answer(robot, rear)
        for _ in range(times):
            for _ in range(FLOOD):
                robot.send(GOOD)
            robot.stop_node(signal.SIGKILL)
            robot.start_node(*TWO_CAMERAS, wait=False, model=model, autostart=True)
            taken.append(_answer(robot, rear))
        assert not rear.wrong
    return taken


def _answer(robot: Robot, rear: RearCamera) -> float | None:
    """Send images at a camera's rate until one of each is answered, not one from before."""
    robot.forget()
    begin = time.monotonic()
    first, first_rear = robot.send(GOOD).nanosec, rear.sent
    while (seconds := time.monotonic() - begin) < PATIENCE_S:
        robot.send(GOOD)
        robot.spin(FRAME_PERIOD_S)
        served = any(stamp_of(masks) >= first for masks in robot.received["masks"])
        if served and rear.newest > first_rear:
            return seconds
    return None


def main() -> None:
    """Run and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=40)
    taken = kill(parser.parse_args().times)
    served = [seconds for seconds in taken if seconds is not None]
    print(f"restarts: {len(taken)}, served: {len(served)}")
    print(f"seconds from start to the first masks: {min(served):.1f} to {max(served):.1f}, "
          f"median {statistics.median(served):.1f}")  # fmt: skip


if __name__ == "__main__":
    main()
