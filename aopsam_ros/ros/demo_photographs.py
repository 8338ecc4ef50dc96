"""Photographs for the demo: where the shipped ones are, and reading a folder of them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

import aopsam_ros
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


def shipped_folder() -> Path:
    """Return the folder of the photographs that come with the package.

    Looked for in the ROS share folder of the package, inside the Python package (pip) and beside it
    (a source checkout), in this order.

    Raises:
        InputError: if it is in none of these places.
    """
    package = Path(aopsam_ros.__file__).resolve().parent
    places = [package / "photographs", package.parent / "photographs"]
    share = _share_folder()
    if share is not None:
        places.insert(0, share / "photographs")
    for place in places:
        if place.is_dir():
            return place
    raise InputError("the shipped photographs are not installed; name a folder with --photos")


def _share_folder() -> Path | None:
    try:
        from ament_index_python.packages import (
            PackageNotFoundError,
            get_package_share_directory,
        )
    except ImportError:
        return None
    try:
        return Path(get_package_share_directory("aopsam_ros"))
    except (PackageNotFoundError, OSError):  # OSError: no ROS environment is set up
        return None


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
