"""Teach a thing by one click, then act wherever it is seen: `~/teach`, `~/detections`.

python examples/teach.py mug 320 240       # the mug is at this pixel of the newest image
"""

import contextlib
import sys

import rclpy
from rclpy.wait_for_message import wait_for_message
from vision_msgs.msg import Detection2DArray

from aopsam_ros.srv import Teach

label, x, y = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])


def on_detections(message: Detection2DArray) -> None:
    """Say where the arm has to go; with depth the same from /aopsam/detections_3d, in metres."""
    for seen in message.detections:
        if seen.results[0].hypothesis.class_id == label:
            place = seen.bbox.center.position
            print(f"{label} at ({place.x:.0f}, {place.y:.0f})", flush=True)


with contextlib.suppress(KeyboardInterrupt, rclpy.executors.ExternalShutdownException):
    rclpy.init()
    node = rclpy.create_node("teach")
    wait_for_message(Detection2DArray, node, "/aopsam/detections")  # an image to click on
    client = node.create_client(Teach, "/aopsam/teach")
    client.wait_for_service()
    future = client.call_async(Teach.Request(label=label, points=[x, y]))
    rclpy.spin_until_future_complete(node, future)
    if not future.result().success:
        raise SystemExit(future.result().message)
    node.create_subscription(Detection2DArray, "/aopsam/detections", on_detections, 1)
    rclpy.spin(node)
