"""cv_bridge, where it is installed, and arrays to image messages."""

import array
import functools
import sys
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from aopsam_ros.images import encodings
from aopsam_ros.images.compressed import RgbImage

JPEG_QUALITY = 80  # as image_transport's


@functools.lru_cache(maxsize=1)
def bridge_reader() -> encodings.Read | None:
    """Return cv_bridge's reader after it has read an image of two pixels correctly, else None.

    It only reads the pixels as they are: `to_rgb` gives the same result with and without it.
    One built for another major version of numpy can be imported or fails only when it is used.
    """
    known = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)
    try:
        from cv_bridge import CvBridge

        read = functools.partial(CvBridge().imgmsg_to_cv2, desired_encoding="passthrough")
        works = np.array_equal(read(array_to_image(known, "rgb8", Header())), known)
    except Exception:
        return None
    return read if works else None


def array_to_image(pixels: NDArray[Any], encoding: str, header: Header) -> Image:
    """Return pixels `[H, W]` or `[H, W, channels]` as a message with this header, unchanged.

    They are of the type of the encoding, which is named as in sensor_msgs.
    """
    pixels = np.ascontiguousarray(pixels)
    message = Image()
    message.header = header
    message.height, message.width = pixels.shape[:2]
    message.encoding = encoding
    message.is_bigendian = int(sys.byteorder == "big")
    message.step = pixels.nbytes // max(1, pixels.shape[0])
    # Only an array of the exact type code is taken over at once; others are checked byte by byte.
    data = array.array("B")
    data.frombytes(pixels.data.cast("B"))
    message.data = data
    return message


def array_to_jpeg(rgb: RgbImage, header: Header) -> CompressedImage:
    """Return an image as image_transport's compressed publisher would."""
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    _, content = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    data = array.array("B", content.tobytes())
    return CompressedImage(header=header, format="rgb8; jpeg compressed bgr8", data=data)
