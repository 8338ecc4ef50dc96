"""Depth images as a camera's driver makes them."""

import array

import numpy as np
from sensor_msgs.msg import Image
from std_msgs.msg import Header


def depth_image(values, encoding=None, padding=0, swapped=False, milliseconds=0):
    """A message as a depth camera's driver makes it."""
    values = np.asarray(values)
    stored = values.astype(values.dtype.newbyteorder(">" if swapped else "<"))
    rows = stored.view(np.uint8).reshape(len(values), -1)
    message = Image(encoding=encoding or {2: "16UC1", 4: "32FC1"}[values.itemsize])
    message.height, message.width = values.shape
    message.step = rows.shape[1] + padding
    message.is_bigendian = int(swapped)
    message.data = array.array("B", np.pad(rows, ((0, 0), (0, padding))).tobytes())
    message.header = header(milliseconds)
    return message


def header(milliseconds):
    found = Header(frame_id="camera_optical_frame")
    found.stamp.sec = milliseconds // 1000
    found.stamp.nanosec = milliseconds % 1000 * 1_000_000
    return found
