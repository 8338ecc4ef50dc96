"""Teach a thing by one click, then act wherever it is seen: `~/teach`, `~/detections`.

python examples/teach.py mug 320 240       # the mug is at this pixel of the newest image
"""

import argparse
import signal

import rclpy
from rclpy.signals import SignalHandlerOptions
from vision_msgs.msg import Detection2DArray

from aopsam_ros.srv import Teach

parser = argparse.ArgumentParser()
parser.add_argument("label")
parser.add_argument("x", type=float)
parser.add_argument("y", type=float)
arguments = parser.parse_args(rclpy.utilities.remove_ros_args()[1:])
label, x, y = arguments.label, arguments.x, arguments.y
received = []  # a message for each image, which can then be clicked on


def on_detections(message: Detection2DArray) -> None:
    """Say where the arm has to go; with depth the same from /aopsam/detections_3d, in metres."""
    received[:] = [message]
    for seen in message.detections:
        if seen.results[0].hypothesis.class_id == label:
            place = seen.bbox.center.position
            print(f"{label} at ({place.x:.0f}, {place.y:.0f})", flush=True)


rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
signals = []
for sign in (signal.SIGINT, signal.SIGTERM):
    signal.signal(sign, lambda number, _: signals.append(number))
node = rclpy.create_node("teach")
node.create_subscription(Detection2DArray, "/aopsam/detections", on_detections, 1)
client = node.create_client(Teach, "/aopsam/teach")
answer = None
while not signals:  # rclpy.spin may miss a signal, and then waits for ever
    rclpy.spin_once(node, timeout_sec=0.5)
    if answer is None and received and client.service_is_ready():
        answer = client.call_async(Teach.Request(label=label, points=[x, y]))
    if answer and answer.done() and not answer.result().success:
        raise SystemExit(answer.result().message)
