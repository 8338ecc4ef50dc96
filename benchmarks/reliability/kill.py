"""The node killed while it works and started again, while the camera goes on."""

from __future__ import annotations

import argparse
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from support.live import Robot
from support.messages import stamp_of
from support.tiny_bundle import write_tiny_bundle

from .session import GOOD, UDP_ALONE

FLOOD = 20  # images on their way at the moment of the kill
FRAME_PERIOD_S = 0.1
PATIENCE_S = 60.0


def kill(times: int) -> list[float | None]:
    """Return how many seconds each new process took to answer one of the camera's images.

    From the start of the process on; None: it was never served.
    """
    taken = []
    with tempfile.TemporaryDirectory(prefix="aopsam_") as folder, Robot(Path(folder)) as robot:
        model = write_tiny_bundle(Path(folder) / "tiny")
        robot.environment.update(UDP_ALONE)
        robot.start_node(model=model, autostart=True)
        _answer(robot)
        for _ in range(times):
            for _ in range(FLOOD):
                robot.send(GOOD)
            robot.stop_node(signal.SIGKILL)
            robot.start_node(wait=False, model=model, autostart=True)
            taken.append(_answer(robot))
    return taken


def _answer(robot: Robot) -> float | None:
    """Send images at a camera's rate until one of them is answered, not one from before."""
    robot.forget()
    begin = time.monotonic()
    first = robot.send(GOOD).nanosec
    while (seconds := time.monotonic() - begin) < PATIENCE_S:
        robot.send(GOOD)
        robot.spin(FRAME_PERIOD_S)
        if any(stamp_of(masks) >= first for masks in robot.received["masks"]):
            return seconds
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=40)
    taken = kill(parser.parse_args(arguments).times)
    served = [seconds for seconds in taken if seconds is not None]
    print(f"restarts: {len(taken)}, served: {len(served)}")
    print(f"seconds from start to the first masks: {min(served):.1f} to {max(served):.1f}, "
          f"median {statistics.median(served):.1f}")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
