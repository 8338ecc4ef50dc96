"""A planner's side of `/aopsam/masks`: where is each object, and where is free space?

python3 src/aopsam_ros/examples/planner.py    # in a workspace, after `. install/setup.sh`
python examples/planner.py                    # in this repository, after `. .venv/bin/activate`

Masks of another node: --ros-args -r /aopsam/masks:=/front/aopsam/masks
"""

from __future__ import annotations

import signal

import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from aopsam_ros.errors import MaskFormatError
from aopsam_ros.masks import decode, to_label_map
from aopsam_ros.msg import Mask, MaskArray


class Planner(Node):
    """Logs what it would plan with."""

    def __init__(self) -> None:
        super().__init__("planner")
        # Depth 1: a plan wants the newest frame.
        masks = self.create_subscription(MaskArray, "/aopsam/masks", self._on_masks, 1)
        self.get_logger().info(f"listening on {masks.topic_name}")

    def _on_masks(self, message: MaskArray) -> None:
        try:
            labels = to_label_map(message.masks, message.height, message.width)
            centres = [(mask.id, *centre(mask)) for mask in message.masks]
        except MaskFormatError as error:
            self.get_logger().warning(f"frame skipped: {error}")
            return
        free = 100.0 * float(np.mean(labels == 0))
        places = ", ".join(f"{number} at ({x:.0f}, {y:.0f})" for number, x, y in centres)
        self.get_logger().info(f"{len(centres)} objects, {free:.0f} % of the image free: {places}")
        if message.status != MaskArray.STATUS_COMPLETE:
            self.get_logger().warning("the time budget was spent: what looks free may be an object")


def centre(mask: Mask) -> tuple[float, float]:
    """Return a mask's centre of gravity in image pixels, x and y."""
    rows, columns = np.nonzero(decode(mask))
    return mask.roi.x_offset + columns.mean(), mask.roi.y_offset + rows.mean()


if __name__ == "__main__":
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    signals: list[int] = []
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, lambda number, _: signals.append(number))
    node = Planner()
    while not signals:  # rclpy.spin may miss a signal, and then waits for ever
        rclpy.spin_once(node, timeout_sec=0.5)
