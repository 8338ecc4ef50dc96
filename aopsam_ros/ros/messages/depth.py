"""Depth images (REP 118) to metres."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image

from aopsam_ros.errors import InputError, quoted
from aopsam_ros.geometry import check_size
from aopsam_ros.images.encodings import host_data
from aopsam_ros.space.boxes_3d import metres

ENCODINGS: Mapping[str, np.dtype[Any]] = {
    "32FC1": np.dtype(np.float32),
    "16UC1": np.dtype(np.uint16),
}


def depth_to_metres(message: Image) -> NDArray[np.float32]:
    """Return a depth image in metres, `[H, W]`, NaN where it is unknown.

    It comes as 32FC1 in metres with NaN unknown, or 16UC1 in millimetres with 0 unknown.

    Raises:
        InputError: empty, too short, of absurd size, or in another encoding.
    """
    kind = ENCODINGS.get(message.encoding)
    if kind is None:
        raise InputError(
            f"depth must be 32FC1 (metres) or 16UC1 (millimetres), not {quoted(message.encoding)}"
        )
    check_size(message.width, message.height)
    if message.step < message.width * kind.itemsize:
        raise InputError(f"the depth image's step of {message.step} bytes is less than a row")
    if len(message.data) < message.step * message.height:
        raise InputError(
            f"the depth image has {len(message.data)} bytes of data, but needs "
            f"{message.step * message.height}"
        )
    stored = kind.newbyteorder(">" if message.is_bigendian else "<")
    shape, strides = (message.height, message.width), (message.step, kind.itemsize)
    pixels: NDArray[Any] = np.ndarray(shape, stored, buffer=host_data(message), strides=strides)
    return metres(pixels.astype(kind, copy=False))
