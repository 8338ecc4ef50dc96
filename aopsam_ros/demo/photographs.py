"""Photographs for the demo: reading a folder of them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.errors import InputError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"})


@dataclass(frozen=True)
class Photograph:
    """One photograph: its file and its pixels, RGB uint8 `[H, W, 3]`."""

    path: Path
    rgb: NDArray[np.uint8]

    @property
    def name(self) -> str:
        """File name with its suffix."""
        return self.path.name


def read_photograph(path: Path) -> Photograph:
    """Read one image file as RGB.

    Raises:
        InputError: if it is not an image that can be read.
    """
    try:
        # Not cv2.imread: it fails on names outside the locale, and prints its own warnings.
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    bgr = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if bgr is None:
        raise InputError(f"{path} is not an image that can be read")
    return Photograph(path, np.ascontiguousarray(bgr[..., ::-1]))


def read_folder(folder: Path) -> list[Photograph]:
    """Read all photographs of a folder, in order of name; a broken one is skipped, with a line.

    Raises:
        InputError: if there is no such folder, or no photograph in it can be read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder with photographs")
    photographs = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
            continue
        try:
            photographs.append(read_photograph(path))
        except InputError as error:
            print(f"skipped: {error}", file=sys.stderr)
    if not photographs:
        raise InputError(f"{folder} holds no photograph that can be read")
    return photographs
