"""Recorded image messages to RGB, as the rosbags library gives them; ROS need not be installed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.errors import InputError


def message_to_rgb(message: Any) -> NDArray[np.uint8]:  # noqa: ANN401  (made at run time)
    """Convert a sensor_msgs Image or CompressedImage to RGB, `uint8 [H, W, 3]`.

    Raises:
        InputError: It is empty, cut short, or in an encoding that has no colours or greys.
    """
    bgr = _decompressed(message) if hasattr(message, "format") else _plain(message)
    return np.ascontiguousarray(bgr[:, :, ::-1])


def _decompressed(message: Any) -> NDArray[np.uint8]:  # noqa: ANN401
    content = np.frombuffer(message.data, np.uint8)
    bgr = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    if bgr is None:
        raise InputError(f"a compressed image ({message.format[:40]!r}) cannot be decoded")
    return np.asarray(bgr, np.uint8)


def _plain(message: Any) -> NDArray[np.uint8]:  # noqa: ANN401
    from rosbags.image import ImageError, image_to_cvimage

    try:
        bgr = image_to_cvimage(_without_padding(message), "bgr8")
    except (ImageError, TypeError, ValueError, cv2.error) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"an image in {message.encoding[:40]!r}: {reason}") from error
    if bgr.dtype != np.uint8 or bgr.ndim != 3 or bgr.shape[2] != 3 or bgr.size == 0:
        raise InputError(f"an image in {message.encoding[:40]!r} is not one of colours")
    return bgr


def _without_padding(message: Any) -> Any:  # noqa: ANN401
    """Return the message with rows that follow each other at once, which the library expects."""
    from rosbags.image.image import to_cvtype

    _, _, kind, channels = to_cvtype(message.encoding)
    row = message.width * channels * np.dtype(kind).itemsize
    if message.step <= row:
        return message
    rows = np.frombuffer(message.data, np.uint8)[: message.height * message.step]
    pixels = rows.reshape(message.height, message.step)[:, :row]
    return replace(message, step=row, data=pixels.ravel())
