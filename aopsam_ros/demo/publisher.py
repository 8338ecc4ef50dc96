"""A camera made of photographs: publishes them as images with CameraInfo, at a steady pace.

Run as `python -m aopsam_ros.demo.publisher`. Every published frame is reported as one line of
JSON on the standard output, so that whoever started it knows which photograph a stamp belongs to.
"""

from __future__ import annotations

import argparse
import array
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import rclpy
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, Image

from aopsam_ros.demo.photographs import Photograph, read_photograph

_LAST_FRAME_GRACE_S = 0.3
_FIELD_OF_VIEW = 1.05  # radians across the width: that of a common webcam


def image_message(rgb: NDArray[np.uint8], frame_id: str) -> Image:
    """Return an rgb8 image without a stamp. rgb: uint8 `[H, W, 3]`."""
    message = Image()
    message.header.frame_id = frame_id
    message.height, message.width = rgb.shape[:2]
    message.encoding = "rgb8"
    message.is_bigendian = 0
    message.step = 3 * rgb.shape[1]
    # Only an array of the exact type code is taken over at once; others are checked byte by byte.
    message.data = array.array("B", np.ascontiguousarray(rgb).tobytes())
    return message


def camera_info(width: int, height: int, frame_id: str) -> CameraInfo:
    """Return the calibration of an ideal pinhole camera of this size, without a stamp."""
    focal = width / (2.0 * np.tan(_FIELD_OF_VIEW / 2.0))
    centre_x, centre_y = (width - 1) / 2.0, (height - 1) / 2.0
    message = CameraInfo()
    message.header.frame_id = frame_id
    message.width, message.height = width, height
    message.distortion_model = "plumb_bob"
    message.d = [0.0] * 5
    message.k = [focal, 0.0, centre_x, 0.0, focal, centre_y, 0.0, 0.0, 1.0]
    message.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    message.p = [focal, 0.0, centre_x, 0.0, 0.0, focal, centre_y, 0.0, 0.0, 0.0, 1.0, 0.0]
    return message


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; None stands for the process's own."""
    parser = argparse.ArgumentParser(description="publish photographs as a camera would")
    parser.add_argument("photographs", nargs="+", type=Path)
    parser.add_argument("--fps", type=float, default=10.0)
    parser.add_argument("--repeat", type=int, default=15, help="frames for each photograph")
    parser.add_argument(
        "--patience", type=float, default=15.0, help="seconds to wait for a subscriber"
    )
    parser.add_argument("--subscribers", type=int, default=1, help="how many to wait for")
    parser.add_argument("--topic", default="/camera/image_raw")
    parser.add_argument("--info-topic", default="/camera/camera_info")
    parser.add_argument("--frame-id", default="camera_optical_frame")
    return parser.parse_args(arguments)


def wait_for_subscriptions(publisher: Publisher, wanted: int, patience: float) -> bool:
    """Wait until so many listen; False when they do not within `patience` seconds."""
    deadline = time.monotonic() + patience
    while publisher.get_subscription_count() < wanted:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def ticks(fps: float, count: int) -> Iterator[int]:
    """Yield 0 … count-1 at a steady pace; a late tick does not shift the later ones."""
    start = time.monotonic()
    for index in range(count):
        time.sleep(max(0.0, start + index / fps - time.monotonic()))
        yield index


class PhotographCamera(Node):
    """Publishes photographs as `Image` and `CameraInfo` with the same stamp."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__("photograph_camera")
        # Reliable suits best-effort subscribers, too. The node takes the newest only, whatever the
        # depth; who records is to get every frame.
        quality = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
        self._images = self.create_publisher(Image, options.topic, quality)
        self._infos = self.create_publisher(CameraInfo, options.info_topic, quality)
        self._options = options

    def stream(self, photographs: Sequence[Photograph]) -> bool:
        """Publish every photograph `repeat` times; False when nobody subscribed."""
        options = self._options
        if not wait_for_subscriptions(self._images, options.subscribers, options.patience):
            return False
        messages = [
            (
                photograph.name,
                image_message(photograph.rgb, options.frame_id),
                camera_info(photograph.rgb.shape[1], photograph.rgb.shape[0], options.frame_id),
            )
            for photograph in photographs
        ]
        for index in ticks(options.fps, options.repeat * len(messages)):
            self._publish(*messages[index // options.repeat])
        time.sleep(_LAST_FRAME_GRACE_S)
        return True

    def _publish(self, name: str, image: Image, info: CameraInfo) -> None:
        stamp = self.get_clock().now()
        image.header.stamp = info.header.stamp = stamp.to_msg()
        # Reported first: the result must not overtake the line that explains it.
        print(json.dumps({"stamp": stamp.nanoseconds, "photograph": name}), flush=True)
        self._infos.publish(info)
        self._images.publish(image)


def main(arguments: Sequence[str] | None = None) -> int:
    """Publish the photographs; 0 when done, 2 when nobody subscribed."""
    options = parse_arguments(arguments)
    photographs = [read_photograph(path) for path in options.photographs]
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    camera = PhotographCamera(options)
    try:
        if camera.stream(photographs):
            return 0
        print(f"nobody subscribed to {options.topic}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    finally:
        camera.destroy_node()
        rclpy.shutdown()


if __name__ == "__main__":
    sys.exit(main())
