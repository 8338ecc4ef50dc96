"""What the demo's camera shows: photographs, or a mug that it moves around."""

import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.errors import InputError
from aopsam_ros.images.files import IMAGE_SUFFIXES, read_rgb

_SUFFIXES = (*IMAGE_SUFFIXES, ".tif", ".tiff", ".ppm")
_MUG_VIEWS, _VIEW_SIZE = 24, (640, 480)


@dataclass(frozen=True)
class Photograph:
    """A photograph: its file name, and its pixels, uint8 RGB `[H, W, 3]`."""

    name: str
    rgb: NDArray[np.uint8]


def read_folder(folder: Path) -> list[Photograph]:
    """Read all photographs of a folder, in order of name; a broken one is skipped, with a line.

    Raises:
        InputError: if there is no such folder, or no photograph in it can be read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder with photographs")
    photographs = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in _SUFFIXES or path.name.startswith("."):
            continue
        try:
            photographs.append(Photograph(path.name, read_rgb(path)))
        except InputError as error:
            print(f"skipped: {error}", file=sys.stderr)
    if not photographs:
        raise InputError(f"{folder} holds no photograph that can be read")
    return photographs


@dataclass(frozen=True)
class Lesson:
    """What a click teaches: a label, and where the first photograph shows the thing, pixels."""

    label: str
    x: int
    y: int


MUG = Lesson("mug", 295, 200)


def mug_views(folder: Path) -> list[Photograph]:
    """Return what a camera sees on its way around a mug, nearer and farther, in changing light.

    It is a window that moves over coffee.jpg in `folder`, and returns to where it began.
    """
    rgb = read_rgb(folder / "coffee.jpg")
    views = []
    for index in range(_MUG_VIEWS):
        turn = 2 * np.pi * index / _MUG_VIEWS
        scale = (365 + 25 * np.cos(turn)) / _VIEW_SIZE[0]  # photograph's pixels to one of a view
        left, top = 110 + 45 * np.sin(turn), 6 + 6 * np.sin(2 * turn)
        to_photograph = np.array([[scale, 0, left], [0, scale, top]])
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        window = cv2.warpAffine(rgb, to_photograph, _VIEW_SIZE, flags=flags)
        light = 0.85 + 0.15 * np.cos(turn)
        views.append(Photograph(f"mug_{index:02d}.jpg", (light * window).astype(np.uint8)))
    return views
