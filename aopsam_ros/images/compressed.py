"""Compressed images: JPEG, PNG and other files' contents to RGB arrays."""

import struct

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.errors import InputError, quoted
from aopsam_ros.geometry import check_size

RgbImage = NDArray[np.uint8]

_JPEG, _PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
# Frame headers are C0 to CF, but for Huffman tables, arithmetic coding and one reserved marker.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length


def decompress(data: bytes, declared: str) -> RgbImage:
    """Decompress a camera's JPEG or PNG image; 16-bit channels keep their upper half.

    It is not turned as an EXIF tag says: a camera's image is what its pixels say, and turning it
    would part it from its CameraInfo.

    Args:
        data: the file's content.
        declared: the message's `format`; drivers fill it in as they like, so it is only quoted.

    Returns:
        uint8 `[H, W, 3]`, contiguous; transparency is dropped.

    Raises:
        InputError: empty, damaged, of absurd size, or in another format.
    """
    width, height = image_size(data, declared)
    check_size(width, height)  # before anything of that size is allocated
    rgb = decode_file(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if rgb is None or rgb.shape[:2] != (height, width):
        raise InputError(f"the compressed image of {len(data)} bytes is damaged")
    return rgb


def decode_file(data: bytes, flags: int = cv2.IMREAD_COLOR) -> RgbImage | None:
    """Decode an image file's content with cv2's flags; None where it is not an image."""
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error:
        bgr = None
    return None if bgr is None else np.ascontiguousarray(bgr[:, :, ::-1], np.uint8)


def image_size(data: bytes, declared: str) -> tuple[int, int]:
    """Read width and height from the header of a JPEG or PNG file; arguments as of `decompress`.

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
