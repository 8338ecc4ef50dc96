"""Messages as drivers of cameras make them."""

import array
import itertools

import cv2
import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2D, ObjectHypothesisWithPose
from visualization_msgs.msg import MarkerArray

from aopsam_ros.ros.parameter_table import TABLE, configuration_of

# Of parameters that nobody has set.
CONFIGURATION = configuration_of({name: spec.default for name, spec in TABLE.items()})


def image_of(rgb, frame_id="camera_optical_frame"):
    """An rgb8 message without a stamp."""
    message = raw_image(rgb, "rgb8")
    message.header.frame_id = frame_id
    return message


def compressed_image(bgr, suffix=".jpg", parameters=()):
    """A message as image_transport's compressed publisher makes it."""
    done, data = cv2.imencode(suffix, bgr, list(parameters))
    assert done
    message = CompressedImage(format=f"rgb8; {suffix[1:]} compressed bgr8")
    message.header.frame_id = "camera_optical_frame"
    message.data = array.array("B", data.tobytes())
    return message


def calibration_of(width, height, frame_id="camera_optical_frame", focal=100.0):
    """An ideal pinhole camera."""
    message = CameraInfo(width=width, height=height, distortion_model="plumb_bob", d=[0.0] * 5)
    message.header.frame_id = frame_id
    message.k = [focal, 0.0, width / 2, 0.0, focal, height / 2, 0.0, 0.0, 1.0]
    message.p = [focal, 0.0, width / 2, 0.0, 0.0, focal, height / 2, 0.0, 0.0, 0.0, 1.0, 0.0]
    return message


def raw_image(values, encoding=None, padding=0, swapped=False, milliseconds=0):
    """A message of these pixels, of depth unless an encoding is given; padding is garbage."""
    values = np.asarray(values)
    stored = values.astype(values.dtype.newbyteorder(">" if swapped else "<"))
    rows = stored.reshape(len(values), -1).view(np.uint8)
    message = Image(encoding=encoding or {2: "16UC1", 4: "32FC1"}[values.itemsize])
    message.height, message.width = values.shape[:2]
    message.step = rows.shape[1] + padding
    message.is_bigendian = int(swapped)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=0xA5)
    message.data = array.array("B", padded.tobytes())
    message.header = header(milliseconds)
    return message


def detection_of(box, scores=(), names=(), theta=0.0):
    """A detector's box x, y, width, height, turned about its middle; names are the scores'."""
    x, y, width, height = map(float, box)
    found = Detection2D()
    found.bbox.center.position.x, found.bbox.center.position.y = x + width / 2, y + height / 2
    found.bbox.center.theta, found.bbox.size_x, found.bbox.size_y = float(theta), width, height
    for score, name in itertools.zip_longest(scores, names, fillvalue=""):
        result = ObjectHypothesisWithPose()
        result.hypothesis.class_id, result.hypothesis.score = name, float(score)
        found.results.append(result)
    return found


def box_of(mask):
    """Left, top, width and height of a mask's box."""
    return mask.roi.x_offset, mask.roi.y_offset, mask.roi.width, mask.roi.height


def header(milliseconds):
    found = Header(frame_id="camera_optical_frame")
    found.stamp.sec = milliseconds // 1000
    found.stamp.nanosec = milliseconds % 1000 * 1_000_000
    return found


def stamp_of(message):
    """The nanoseconds that `Robot.send` numbers images with."""
    if isinstance(message, MarkerArray):
        return message.markers[0].header.stamp.nanosec if message.markers else None
    return message.header.stamp.nanosec
