"""Compressed camera images (image_transport's `compressed`): JPEG and PNG to RGB arrays."""

from __future__ import annotations

import struct

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage

from aopsam_ros.errors import InputError
from aopsam_ros.ros.messages.images import RgbImage, check_size, quoted

_JPEG, _PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
# Frame headers are C0 to CF, but for Huffman tables, arithmetic coding and one reserved marker.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length


def compressed_to_rgb(message: CompressedImage) -> RgbImage:
    """Decompress an image.

    Args:
        message: JPEG or PNG; 16-bit channels keep their upper half, transparency is dropped.

    Returns:
        uint8 `[H, W, 3]`, contiguous.

    Raises:
        InputError: empty, damaged, of absurd size, or in another format.
    """
    data = bytes(message.data)
    width, height = picture_size(data, message.format)
    check_size(width, height)  # before anything of that size is allocated
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | _AS_STORED)
    if bgr is None or bgr.shape[:2] != (height, width):
        raise InputError(f"the compressed image of {len(data)} bytes is damaged")
    return np.ascontiguousarray(bgr[:, :, ::-1])


# A camera's image is what its pixels say; turning it by EXIF would part it from its CameraInfo.
_AS_STORED = cv2.IMREAD_IGNORE_ORIENTATION


def picture_size(data: bytes, declared: str) -> tuple[int, int]:
    """Read width and height from the header of a JPEG or PNG file.

    Args:
        data: the file.
        declared: the message's `format`; drivers fill it in as they like, so it is only quoted.

    Raises:
        InputError: if the data are neither, or end before their header does.
    """
    if not data:
        raise InputError("the compressed image is empty")
    try:
        if data.startswith(_PNG):
            width, height = struct.unpack_from(">II", data, 16)
            return width, height
        if data.startswith(_JPEG):
            return _jpeg_size(data)
    except struct.error:
        raise InputError(
            f"the compressed image ends after {len(data)} bytes, in its header"
        ) from None
    raise InputError(f"a compressed image must be JPEG or PNG, and {quoted(declared)} is neither")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    at = 2
    while True:
        mark, kind = struct.unpack_from(">BB", data, at)
        if mark != 0xFF:
            raise InputError("the compressed image is no valid JPEG")
        if kind in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        if kind == 0xFF:  # fill byte
            at += 1
        elif kind in _JPEG_BARE:
            at += 2
        else:
            (length,) = struct.unpack_from(">H", data, at + 2)
            at += 2 + max(2, length)
