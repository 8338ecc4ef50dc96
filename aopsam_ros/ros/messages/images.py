"""Camera images to RGB arrays, and arrays to image messages.

Two readers turn a message into an array of its pixels as they are: cv_bridge, where it is installed
and works, and our own. Everything after that, checks before it included, is shared, so that the
result does not depend on which of them was there.
"""

from __future__ import annotations

import array
import functools
import sys
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from aopsam_ros.errors import InputError

RgbImage = NDArray[np.uint8]

MAX_SIDE = 16384  # pixels; far beyond any camera, small enough to catch a corrupt header
MAX_PIXELS = 1 << 26  # an 8K frame is half of this
_LONGEST_QUOTE = 40  # characters


def quoted(text: str) -> str:
    """Return text of a message as it may stand in a log: in quotes, escaped, and cut short."""
    return repr(text[:_LONGEST_QUOTE])


@dataclass(frozen=True)
class Encoding:
    """How the pixels of an encoding lie in memory, and which cv2 conversion makes them RGB."""

    channels: int
    code: int | None
    itemsize: int = 1  # bytes a channel
    least_side: int = 1  # demosaicing leaves smaller images black
    even_width: bool = False  # two neighbours share their chroma
    half_height_chroma: bool = False  # a chroma plane of half the height follows the luma plane

    @property
    def pixel_bytes(self) -> int:
        """Bytes from one pixel to the next."""
        return self.channels * self.itemsize


def _bayer(code: int, itemsize: int = 1) -> Encoding:
    return Encoding(1, code, itemsize, least_side=3)


# cv2 names a Bayer pattern by its second row's second and third pixel, ROS by the first two rows.
_BAYER = {
    "rggb": cv2.COLOR_BayerBG2RGB,
    "bggr": cv2.COLOR_BayerRG2RGB,
    "gbrg": cv2.COLOR_BayerGR2RGB,
    "grbg": cv2.COLOR_BayerGB2RGB,
}
_UYVY = Encoding(2, cv2.COLOR_YUV2RGB_UYVY, even_width=True)
_YUYV = Encoding(2, cv2.COLOR_YUV2RGB_YUY2, even_width=True)

ENCODINGS: dict[str, Encoding] = {
    "rgb8": Encoding(3, None),
    "bgr8": Encoding(3, cv2.COLOR_BGR2RGB),
    "rgba8": Encoding(4, cv2.COLOR_RGBA2RGB),
    "bgra8": Encoding(4, cv2.COLOR_BGRA2RGB),
    "mono8": Encoding(1, cv2.COLOR_GRAY2RGB),
    "rgb16": Encoding(3, None, 2),
    "bgr16": Encoding(3, cv2.COLOR_BGR2RGB, 2),
    "rgba16": Encoding(4, cv2.COLOR_RGBA2RGB, 2),
    "bgra16": Encoding(4, cv2.COLOR_BGRA2RGB, 2),
    "mono16": Encoding(1, cv2.COLOR_GRAY2RGB, 2),
    # These say nothing about colour; OpenCV's own order, blue first, is meant by convention.
    "8UC1": Encoding(1, cv2.COLOR_GRAY2RGB),
    "8UC3": Encoding(3, cv2.COLOR_BGR2RGB),
    "8UC4": Encoding(4, cv2.COLOR_BGRA2RGB),
    "16UC1": Encoding(1, cv2.COLOR_GRAY2RGB, 2),
    "yuv422": _UYVY,
    "uyvy": _UYVY,
    "yuv422_yuy2": _YUYV,
    "yuyv": _YUYV,
    "nv21": Encoding(1, cv2.COLOR_YUV2RGB_NV21, even_width=True, half_height_chroma=True),
    **{f"bayer_{pattern}8": _bayer(code) for pattern, code in _BAYER.items()},
    **{f"bayer_{pattern}16": _bayer(code, 2) for pattern, code in _BAYER.items()},
}


def image_to_rgb(message: Image) -> RgbImage:
    """Return the image as RGB; 16-bit channels are scaled by their full range (65535 to 255).

    Args:
        message: one of `ENCODINGS`; rows may be padded, 16-bit pixels may be big-endian.

    Returns:
        uint8 `[H, W, 3]`, contiguous; for rgb8 it may share the message's memory.

    Raises:
        InputError: empty, too short, of no or of absurd size, or in an encoding not known here.
    """
    encoding = _checked_encoding(message)
    pixels = _read_with_bridge(message, encoding)
    if pixels is None:
        pixels = read_pixels(message, encoding)
    return _to_rgb(pixels, encoding)


def _checked_encoding(message: Image) -> Encoding:
    """Return how the pixels lie in memory, once it is certain that they are all there."""
    name = quoted(message.encoding)
    encoding = ENCODINGS.get(message.encoding)
    if encoding is None:
        raise InputError(f"image encoding {name} is not supported; use one of {_names()}")
    _check_size(message, encoding, name)
    _check_data(message, encoding)
    return encoding


def _names() -> str:
    return ", ".join(ENCODINGS)


def check_size(width: int, height: int) -> None:
    """Refuse an image that is empty or of absurd size.

    Raises:
        InputError: if it is.
    """
    size = f"{width}x{height}"
    if width == 0 or height == 0:
        raise InputError(f"the image is empty: {size} pixels")
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise InputError(
            f"{size} pixels are too large an image: at most {MAX_SIDE} a side, {MAX_PIXELS} in all"
        )


def _check_size(message: Image, encoding: Encoding, name: str) -> None:
    width, height = message.width, message.height
    check_size(width, height)
    size = f"{width}x{height}"
    least = encoding.least_side
    if min(width, height) < least:
        raise InputError(f"an image in {name} needs at least {least}x{least} pixels, not {size}")
    if (encoding.even_width and width % 2) or (encoding.half_height_chroma and height % 2):
        raise InputError(f"an image in {name} has an even number of pixels a side, not {size}")


def _check_data(message: Image, encoding: Encoding) -> None:
    row = message.width * encoding.pixel_bytes
    if message.step < row:
        raise InputError(f"the image's step is {message.step} bytes, but a row needs {row}")
    needed = message.step * _rows(message, encoding)
    if len(message.data) < needed:
        raise InputError(f"the image has {len(message.data)} bytes of data, but needs {needed}")


def _rows(message: Image, encoding: Encoding) -> int:
    """Return the rows in memory, the chroma plane's among them."""
    height: int = message.height
    return height + height // 2 if encoding.half_height_chroma else height


def read_pixels(message: Image, encoding: Encoding) -> NDArray[Any]:
    """View the message's pixels as they are, without padding; the data must have been checked.

    Returns:
        uint8 or uint16 in the machine's byte order, `[H, W]` or `[H, W, channels]`.
    """
    byte_order = ">" if message.is_bigendian else "<"
    dtype = np.dtype(f"{byte_order}u{encoding.itemsize}")
    pixels = np.ndarray(
        shape=(_rows(message, encoding), message.width, encoding.channels),
        dtype=dtype,
        buffer=message.data,
        strides=(message.step, encoding.pixel_bytes, encoding.itemsize),
    )
    if encoding.channels == 1:
        pixels = pixels[:, :, 0]
    if message.step % encoding.itemsize:
        # cv2 misreads rows that do not start at a whole channel, without a word.
        pixels = np.ascontiguousarray(pixels)
    return pixels.astype(dtype.newbyteorder("="), copy=False)


def _read_with_bridge(message: Image, encoding: Encoding) -> NDArray[Any] | None:
    """Let cv_bridge read the pixels; None where it is absent or cannot."""
    bridge = working_bridge()
    # cv_bridge shears an image whose rows are padded by a part of a pixel, and has no planar ones.
    if bridge is None or message.step % encoding.pixel_bytes or encoding.half_height_chroma:
        return None
    try:
        return np.asarray(bridge.imgmsg_to_cv2(message, "passthrough"))
    except Exception:
        # It knows fewer encodings, and not every release reads big-endian with every numpy.
        return None


@functools.lru_cache(maxsize=1)
def working_bridge() -> Any | None:  # noqa: ANN401  (cv_bridge has no types)
    """Return a CvBridge after it has read an image of two pixels correctly, else None.

    One built for another major version of numpy can be imported or fails only when it is used.
    """
    try:
        from cv_bridge import CvBridge

        bridge = CvBridge()
        pixels = bridge.imgmsg_to_cv2(_probe(), "passthrough")
        works = np.array_equal(pixels, [[[1, 2, 3], [4, 5, 6]]])
    except Exception:
        return None
    return bridge if works else None


def _probe() -> Image:
    """Return an image of two known pixels."""
    pixels = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)
    return array_to_image(pixels, "rgb8", Header())


def _to_rgb(pixels: NDArray[Any], encoding: Encoding) -> RgbImage:
    if encoding.itemsize == 2:
        pixels = cv2.convertScaleAbs(pixels, alpha=255.0 / 65535.0)
    if encoding.code is not None:
        pixels = cv2.cvtColor(pixels, encoding.code)
    return np.ascontiguousarray(pixels, dtype=np.uint8)


def array_to_image(pixels: NDArray[Any], encoding: str, header: Header) -> Image:
    """Return an image message with this header, unchanged.

    Args:
        pixels: `[H, W]` or `[H, W, channels]`, of the encoding's type.
        encoding: name of the encoding, as in sensor_msgs.
        header: stamp and frame of the image that the pixels belong to.
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
