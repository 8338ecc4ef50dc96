"""Ask for the mask at a pixel, beside a running stream: `~/segment`.

python examples/click.py 320 240                     # on the newest image
python examples/click.py 320 240 photo.jpg           # on an image file
"""

from __future__ import annotations

import argparse
import array

import cv2
import rclpy
from rclpy.node import Node
from sensor_msgs.msg import Image

from aopsam_ros.srv import Segment

PATIENCE_S = 10.0


def request_for(x: float, y: float, file: str | None) -> Segment.Request:
    """Return a request for what lies at a pixel."""
    request = Segment.Request(points=[x, y])  # labels are left out: the point is on the object
    if file is not None:
        request.image = read(file)
    return request


def read(file: str) -> Image:
    """Return an image file as a message."""
    bgr = cv2.imread(file)
    if bgr is None:
        raise SystemExit(f"{file} cannot be read as an image")
    message = Image(encoding="bgr8", step=3 * bgr.shape[1])
    message.height, message.width = bgr.shape[:2]
    message.data = array.array("B", bgr.tobytes())
    return message


def main() -> None:
    """Ask once and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("x", type=float)
    parser.add_argument("y", type=float)
    parser.add_argument("file", nargs="?")
    arguments = parser.parse_args(rclpy.utilities.remove_ros_args()[1:])
    rclpy.init()
    node = Node("click")
    client = node.create_client(Segment, "/aopsam/segment")
    if not client.wait_for_service(timeout_sec=PATIENCE_S):
        raise SystemExit("there is no /aopsam/segment: is the node running?")
    request = request_for(arguments.x, arguments.y, arguments.file)
    for _ in range(3):  # an answer is lost where the node does not know this program yet
        future = client.call_async(request)
        rclpy.spin_until_future_complete(node, future, timeout_sec=PATIENCE_S)
        if future.done():
            break
    response = future.result()
    if response is None or not response.success:
        raise SystemExit(response.message if response else "no answer")
    for mask in response.masks:
        box = (mask.roi.x_offset, mask.roi.y_offset, mask.roi.width, mask.roi.height)
        print(f"{mask.area} pixels in {box}, predicted IoU {mask.predicted_iou:.2f}")


if __name__ == "__main__":
    main()
