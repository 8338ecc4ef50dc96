"""The pictures that are segmented: a shipped photograph in the sizes of cameras."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.errors import InputError
from aopsam_ros.images.files import read_rgb
from aopsam_ros.ros.resources import resource_folder

PHOTOGRAPH = "coffee.jpg"


def parse_size(text: str) -> tuple[int, int]:
    """Read `1280x720` as width and height.

    Raises:
        InputError: if it is no such size.
    """
    width, separator, height = text.partition("x")
    if not (separator and width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise InputError(f"a size is WIDTHxHEIGHT, such as 1280x720, not '{text}'")
    return int(width), int(height)


def picture(width: int, height: int) -> NDArray[np.uint8]:
    """Return the photograph in this size, uint8 `[height, width, 3]`: cut to its shape, resized."""
    rgb = read_rgb(resource_folder("photographs") / PHOTOGRAPH)
    rows, columns = rgb.shape[:2]
    wanted_rows = min(rows, round(columns * height / width))
    wanted_columns = min(columns, round(rows * width / height))
    top, left = (rows - wanted_rows) // 2, (columns - wanted_columns) // 2
    cut = rgb[top : top + wanted_rows, left : left + wanted_columns]
    method = cv2.INTER_AREA if width < wanted_columns else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(cut, (width, height), interpolation=method), np.uint8)
