"""Boxes of many images in a JSON file, `{"set/photo.jpg": [[left, top, right, bottom]]}`.

A confidence and then a class may follow the corners.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from aopsam_ros.errors import InputError
from aopsam_ros.images.files import IMAGE_SUFFIXES, read_bytes
from aopsam_ros.prompting.boxes import Boxes


class BoxFile:
    """Finds an image's boxes by its name.

    A key of the file is an image's name, with or without its suffix, after any of the folders that
    the image lies in: `set/photo.jpg` names `set/images/photo.jpg`, and so does `photo`.
    `digest` is the sha256 of the file.
    """

    def __init__(self, path: Path) -> None:
        """Read and check the whole file.

        Raises:
            InputError: if it cannot be read or is not of this format; the message names the entry.
        """
        self.path = path
        self._by_name: dict[str, list[tuple[tuple[str, ...], Boxes]]] = {}
        content = read_bytes(path)
        self.digest = hashlib.sha256(content).hexdigest()
        for key, rows in _parse(path, content).items():
            *folders, name = PurePosixPath(key).parts or ("",)
            entry = (tuple(folders), _boxes(path, key, rows))
            self._by_name.setdefault(_without_suffix(name), []).append(entry)

    def find(self, name: str, folders: Iterable[str] = ()) -> Boxes:
        """Return the boxes of an image, with or without its suffix, in some folders, in any order.

        Raises:
            InputError: if the file does not name it, or more than one key may mean it.
        """
        known = set(folders)
        found = [e for e in self._by_name.get(_without_suffix(name), []) if known.issuperset(e[0])]
        most = max((len(folders) for folders, _ in found), default=0)
        nearest = [boxes for folders, boxes in found if len(folders) == most]
        if len(nearest) != 1:
            many = "several entries" if nearest else "no entry"
            raise InputError(f"{self.path}: {many} for the image {name}")
        return nearest[0]

    def find_path(self, image: Path) -> Boxes:
        """Return the boxes of an image file; see `find`."""
        absolute = image.absolute()
        return self.find(absolute.name, absolute.parts[:-1])


def _parse(path: Path, content: bytes) -> dict[str, object]:
    try:
        entries = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error})") from None
    if not isinstance(entries, dict):
        raise InputError(f"{path}: must map images to lists of boxes")
    return entries


def _boxes(path: Path, key: str, rows: object) -> Boxes:
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise InputError(f"{path}: {key}: must be a list of boxes")
    try:
        boxes = Boxes.from_rows(rows)
        if (boxes.corners[:, 2:] < boxes.corners[:, :2]).any():
            raise InputError("a box must be left, top, right, bottom, not x, y, width, height")
    except InputError as error:
        raise InputError(f"{path}: {key}: {error}") from None
    return boxes


def _without_suffix(name: str) -> str:
    suffix = PurePosixPath(name).suffix
    return name[: -len(suffix)] if suffix.lower() in IMAGE_SUFFIXES else name
