"""How many images of a camera that never sends anything twice get through to the node."""

from __future__ import annotations

import argparse

from aopsam_ros.ros.resources import large_message_environment

from .session import bystander, robot_with_node

SIZES = {"640x480": 640 * 480 * 3, "1280x720": 1280 * 720 * 3, "1920x1080": 1920 * 1080 * 3}
PERIOD_S = 0.2


def share_answered(size: int, seconds: float, variables: dict[str, str]) -> float:
    """Return which share of images of so many bytes is answered by masks.

    Of those between the first and the last one that is.
    """
    arguments = ["--size", str(size), "--period", str(PERIOD_S), "--best-effort"]
    with robot_with_node() as robot, bystander(robot, "camera", *arguments, **variables):
        robot.spin(seconds)
        numbers = [int(message.header.frame_id) for message in robot.received["masks"]]
    return len(numbers) / (max(numbers) - min(numbers) + 1) if numbers else 0.0


def main() -> None:
    """Run and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    seconds = parser.parse_args().seconds
    for name, size in SIZES.items():
        default = share_answered(size, seconds, {})
        shipped = share_answered(size, seconds, large_message_environment())
        print(f"{name}: {default:.0%} by default, {shipped:.0%} with config/fastdds.xml")


if __name__ == "__main__":
    main()
