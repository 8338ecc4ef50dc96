"""The photographs that the demo's camera shows."""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.errors import InputError
from aopsam_ros.images.files import IMAGE_SUFFIXES, read_rgb

_SUFFIXES = (*IMAGE_SUFFIXES, ".tif", ".tiff", ".ppm")


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
