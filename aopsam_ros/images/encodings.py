"""Image messages to RGB arrays; ROS need not be installed.

A message is anything with the fields of sensor_msgs `Image` or `CompressedImage`, whether rclpy or
the rosbags library made it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.errors import InputError, quoted
from aopsam_ros.geometry import check_size
from aopsam_ros.images.compressed import RgbImage, decompress

Read = Callable[[Any], NDArray[Any]]


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
    **{
        f"bayer_{pattern}{8 * size}": Encoding(1, code, size, least_side=3)
        for size in (1, 2)
        for pattern, code in _BAYER.items()
    },
}


def to_rgb(message: Any, read: Read | None = None) -> RgbImage:  # noqa: ANN401
    """Return a message's image as RGB; 16-bit channels are scaled by their full range.

    Args:
        message: compressed as JPEG or PNG, or in one of `ENCODINGS`; rows may be padded, 16-bit
            pixels may be big-endian.
        read: returns the pixels of an uncompressed message as they are, such as cv_bridge does;
            where it raises, or is None, they are read here.

    Returns:
        uint8 `[H, W, 3]`, contiguous; for rgb8 it may share the message's memory.

    Raises:
        InputError: empty, too short, damaged, of no or of absurd size, or in an unknown encoding.
    """
    if hasattr(message, "format"):
        return decompress(bytes(host_data(message)), message.format)
    encoding = _checked_encoding(message)
    pixels = _read_by(read, message, encoding)
    if pixels is None:
        pixels = _read_pixels(message, encoding)
    if encoding.itemsize == 2:
        pixels = cv2.convertScaleAbs(pixels, alpha=255.0 / 65535.0)
    if encoding.code is not None:
        pixels = cv2.cvtColor(pixels, encoding.code)
    return np.ascontiguousarray(pixels, dtype=np.uint8)


def host_data(message: Any) -> Any:  # noqa: ANN401
    """Return a message's data in the processor's memory.

    From ROS 2 Lyrical on they may be a `rosidl_buffer.Buffer` in other memory, as a GPU's: copied.
    """
    data = message.data
    return data.to_bytes() if hasattr(data, "to_bytes") else data


def _checked_encoding(message: Any) -> Encoding:  # noqa: ANN401
    """Return how the pixels lie in memory, once it is certain that they are all there."""
    encoding = ENCODINGS.get(message.encoding)
    if encoding is None:
        raise InputError(
            f"image encoding {quoted(message.encoding)} is not supported; use one of "
            f"{', '.join(ENCODINGS)}"
        )
    width, height, least = message.width, message.height, encoding.least_side
    check_size(width, height)
    wanted = ""
    if min(width, height) < least:
        wanted = f"needs at least {least}x{least} pixels"
    elif (encoding.even_width and width % 2) or (encoding.half_height_chroma and height % 2):
        wanted = "has an even number of pixels a side"
    if wanted:
        name = quoted(message.encoding)
        raise InputError(f"an image in {name} {wanted}, not {width}x{height}")
    row = width * encoding.pixel_bytes
    if message.step < row:
        raise InputError(f"the image's step is {message.step} bytes, but a row needs {row}")
    needed = message.step * _rows(message, encoding)
    if len(message.data) < needed:
        raise InputError(f"the image has {len(message.data)} bytes of data, but needs {needed}")
    return encoding


def _rows(message: Any, encoding: Encoding) -> int:  # noqa: ANN401
    """Return the rows in memory, the chroma plane's among them."""
    height: int = message.height
    return height + height // 2 if encoding.half_height_chroma else height


def _read_by(read: Read | None, message: Any, encoding: Encoding) -> NDArray[Any] | None:  # noqa: ANN401
    """Let `read` read the pixels; None where it is absent or cannot."""
    # cv_bridge shears an image whose rows are padded by a part of a pixel, and has no planar ones.
    if read is None or message.step % encoding.pixel_bytes or encoding.half_height_chroma:
        return None
    try:
        return np.asarray(read(message))
    except Exception:
        # It knows fewer encodings, and not every release reads big-endian with every numpy.
        return None


def _read_pixels(message: Any, encoding: Encoding) -> NDArray[Any]:  # noqa: ANN401
    """View the message's pixels as they are, without padding; the data must have been checked.

    Returns:
        uint8 or uint16 in the machine's byte order, `[H, W]` or `[H, W, channels]`.
    """
    byte_order = ">" if message.is_bigendian else "<"
    dtype = np.dtype(f"{byte_order}u{encoding.itemsize}")
    pixels = np.ndarray(
        shape=(_rows(message, encoding), message.width, encoding.channels),
        dtype=dtype,
        buffer=host_data(message),
        strides=(message.step, encoding.pixel_bytes, encoding.itemsize),
    )
    if encoding.channels == 1:
        pixels = pixels[:, :, 0]
    if message.step % encoding.itemsize:
        # cv2 misreads rows that do not start at a whole channel, without a word.
        pixels = np.ascontiguousarray(pixels)
    return pixels.astype(dtype.newbyteorder("="), copy=False)
