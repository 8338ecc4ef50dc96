"""Reading and writing image files."""

import os
from pathlib import Path
from typing import Any

import cv2

from aopsam_ros.errors import InputError
from aopsam_ros.images.compressed import RgbImage, decode_file

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def images_in(folder: Path) -> list[Path]:
    """List a folder's images by name, but for those that `aopsam segment` drew of one in it.

    Raises:
        OSError: if the folder cannot be listed.
    """
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    return [file for file in files if not _is_drawn(file)]


def _is_drawn(image: Path) -> bool:
    stem, _, what = image.stem.rpartition("_")
    return what in ("overlay", "edges") and image.with_name(f"{stem}.json").is_file()


def read_rgb(path: Path) -> RgbImage:
    """Read an image as uint8 RGB `[H, W, 3]`, turned as its EXIF orientation says.

    Grey images become RGB, 16-bit ones 8-bit; transparency is left out.

    Raises:
        InputError: if the file is missing, unreadable or not an image.
    """
    rgb = decode_file(read_bytes(path))
    if rgb is None:
        raise InputError(f"{path}: not an image that can be read")
    return rgb


def read_bytes(path: Path) -> bytes:
    """Return a file's content.

    Raises:
        InputError: if it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None


def opencv_name(path: Path) -> Any:  # noqa: ANN401  (OpenCV's types know no bytes)
    """Return a file's name as OpenCV takes it.

    Bytes where it is no text, as one in Latin-1: as a str it would end the process.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return os.fsencode(path)
    return str(path)


def write_rgb(path: Path, rgb: RgbImage) -> None:
    """Write uint8 RGB `[H, W, 3]` in the format of the path's suffix.

    Raises:
        OSError: if the file cannot be written.
    """
    done, content = cv2.imencode(path.suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    if not done:
        raise OSError(f"{path}: the image cannot be encoded")
    write_bytes(path, content.tobytes())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
