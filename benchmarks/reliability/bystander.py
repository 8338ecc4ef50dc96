"""A camera, or a listener that never reads, in a process of its own: to be killed."""

from __future__ import annotations

import argparse
import array
import itertools
import sys
import time

import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from aopsam_ros.msg import MaskArray
from support.live import RELIABLE
from support.messages import image_of
from support.scenes import boxes_scene

from .session import CAMERA

BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


def main() -> None:
    """Do it until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=("camera", "listener"))
    parser.add_argument("--size", type=int, default=0, help="of the camera's image, bytes beside")
    parser.add_argument("--period", type=float, default=0.03, help="of the camera, seconds")
    parser.add_argument("--asked", action="store_true", help="for each, by a line to read")
    parser.add_argument("--best-effort", action="store_true", help="as a camera may publish")
    options, _ = parser.parse_known_args()
    rclpy.init()
    node = rclpy.create_node(options.role)
    if options.role == "listener":  # reliable, and never takes a message
        node.create_subscription(MaskArray, "/aopsam/masks", lambda _: None, RELIABLE)
        print("ready", flush=True)
        while True:
            time.sleep(1.0)
    qos = BEST_EFFORT if options.best_effort else CAMERA
    publisher = node.create_publisher(Image, "/image", qos)
    image = image_of(boxes_scene())
    image.data = array.array("B", bytes(image.data) + bytes(options.size))
    print("ready", flush=True)
    for number in itertools.count():
        if options.asked and not sys.stdin.readline():
            break
        image.header.stamp = node.get_clock().now().to_msg()
        image.header.frame_id = str(number)
        publisher.publish(image)
        time.sleep(0.0 if options.asked else options.period)


if __name__ == "__main__":
    main()
