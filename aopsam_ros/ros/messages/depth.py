"""Depth images (REP 118): read, and found by the stamp of the image that they belong to."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from aopsam_ros.errors import InputError
from aopsam_ros.ros.messages.images import check_size
from aopsam_ros.ros.messages.quoting import quoted
from aopsam_ros.ros.stamp_buffer import PairingOptions, StampBuffer, nanoseconds
from aopsam_ros.space.boxes_3d import metres

ENCODINGS: Mapping[str, np.dtype[Any]] = {
    "32FC1": np.dtype(np.float32),
    "16UC1": np.dtype(np.uint16),
}
MOST_IMAGES = 30  # kept, for an image that is being segmented meanwhile
ALIVE_S = 1.0  # after its last image, depth is still waited for
PATIENCE_S = 3.0  # after it was first listened to, none is no fault


def depth_to_metres(message: Image) -> NDArray[np.float32]:
    """Return a depth image in metres, `[H, W]`, NaN where it is unknown.

    Args:
        message: 32FC1 in metres with NaN unknown, or 16UC1 in millimetres with 0 unknown.

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
    return metres(_pixels(message, kind))


def _pixels(message: Image, kind: np.dtype[Any]) -> NDArray[Any]:
    stored = kind.newbyteorder(">" if message.is_bigendian else "<")
    pixels: NDArray[Any] = np.ndarray(
        (message.height, message.width),
        stored,
        buffer=message.data,
        strides=(message.step, kind.itemsize),
    )
    return pixels.astype(kind, copy=False)


class DepthImages:
    """The newest depth images; one thread puts them in, another waits for the one it needs."""

    def __init__(self) -> None:
        """Begin with none."""
        self._changed = threading.Condition()
        self._kept: StampBuffer[Image] = StampBuffer(MOST_IMAGES)
        self._newest_stamp = 0
        self._heard = float("-inf")
        self._wanted_since = float("inf")

    def want(self, wanted: bool) -> None:
        """Note whether depth is listened to; told again and again."""
        if not wanted:
            self._wanted_since = float("inf")
        elif self._wanted_since == float("inf"):
            self._wanted_since = time.monotonic()

    def put(self, message: Image) -> None:
        """Keep an image."""
        with self._changed:
            self._kept.put(message.header, message)
            self._newest_stamp = nanoseconds(message.header)
            self._heard = time.monotonic()
            self._changed.notify_all()

    def wait_for(self, header: Header, options: PairingOptions, received: float) -> Image | None:
        """Return the depth of an image; None as long as none can be expected to have come.

        Waits until `timeout_ms` after the image was `received` (monotonic seconds), but only as
        long as depth images keep coming and none is newer than the image yet.

        Raises:
            InputError: if there is none; says what there is instead.
        """
        with self._changed:
            while True:
                found = self._kept.nearest(header)
                if found is not None and found[0] <= options.tolerance_ms:
                    return found[1]
                left = min(received + options.timeout_ms / 1000, self._heard + ALIVE_S)
                left -= time.monotonic()
                if found is None and time.monotonic() < self._wanted_since + PATIENCE_S:
                    return None
                if left <= 0 or self._newest_stamp > nanoseconds(header):
                    raise InputError(_why(found, options))
                self._changed.wait(left)

    def clear(self) -> None:
        """Forget all."""
        with self._changed:
            self._kept.clear()
            self._heard = float("-inf")
            self._changed.notify_all()


def _why(found: tuple[float, Image] | None, options: PairingOptions) -> str:
    if found is None:
        return "no depth came"
    return (
        f"no depth is within {options.tolerance_ms:g} ms of the image's stamp, the nearest "
        f"{found[0]:.0f} ms"
    )
