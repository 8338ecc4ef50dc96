"""Results by photograph on disk, so that an interrupted evaluation goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from aopsam_ros.data.datasets import LabelledImage
from aopsam_ros.errors import InputError
from aopsam_ros.evaluation.automatic import ImageResult

FORMAT = 1  # raise it when what is measured changes


@dataclass(frozen=True)
class Stored:
    """One photograph's figures and, as COCO's run lengths, its masks and their predicted IoU."""

    result: ImageResult
    found: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()


def configuration_key(description: Mapping[str, Any]) -> str:
    """Return a short name that differs for whatever gives other results."""
    basis = {"format": FORMAT, "release": _release(), **description}
    content = json.dumps(basis, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _release() -> str:
    """Return this package's version; another release may find other masks."""
    try:
        return version("aopsam_ros")
    except PackageNotFoundError:  # run from its sources
        return ""


def image_key(dataset: str, image: LabelledImage) -> str:
    """Return a name that differs for another picture or other labels of the same name."""
    content = zlib.crc32(image.layers.tobytes(), zlib.crc32(image.rgb.tobytes()))
    return f"{dataset}/{image.name}/{content:08x}"


class Store:
    """Results of one configuration: a line of JSON for each photograph, appended at once.

    Args:
        path: the file; None keeps the results in memory only.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Read what an earlier run left; a line that was cut off is measured again."""
        self._path = path
        self._results: dict[str, Stored] = {}
        if path is not None and path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                self._read(line)

    def _read(self, line: str) -> None:
        try:
            content = json.loads(line)
            result = ImageResult(**content["result"])
            stored = Stored(result, tuple(content["found"]), tuple(content["scores"]))
            self._results[content["image"]] = stored
        except (ValueError, KeyError, TypeError):
            return

    def get(self, image: str) -> Stored | None:
        """Return a photograph's results, if they are there; see `image_key`."""
        return self._results.get(image)

    def put(self, image: str, stored: Stored) -> None:
        """Keep a photograph's results.

        Raises:
            InputError: if they cannot be written.
        """
        self._results[image] = stored
        if self._path is None:
            return
        line = json.dumps({"image": image, **asdict(stored)}) + "\n"
        try:
            # The break first: a line that was cut off before must not spoil this one.
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"\n{line}" if file.tell() else line)
        except OSError as error:
            raise InputError(f"{self._path}: cannot be written: {error.strerror}") from None
