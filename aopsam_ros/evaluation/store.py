"""Results by image on disk, so that an interrupted evaluation goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from aopsam_ros.errors import InputError
from aopsam_ros.evaluation.figures import ImageFigures
from aopsam_ros.evaluation.panoptic import PanopticCounts

FORMAT = 2  # raise it when what is measured changes


@dataclass(frozen=True)
class StoredImage:
    """One image's figures and, as COCO's run lengths, its predicted masks and their scores."""

    figures: ImageFigures
    predicted: tuple[str, ...] = ()
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


class Store:
    """Results of one configuration: a line of JSON for each image, appended at once.

    Args:
        path: the file; None keeps the results in memory only.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Read what an earlier run left; a line that was cut off is measured again."""
        self._path = path
        self._images: dict[str, StoredImage] = {}
        if path is not None and path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                self._read(line)

    def _read(self, line: str) -> None:
        try:
            content = json.loads(line)
            figures = content["figures"]
            figures["panoptic"] = PanopticCounts(**figures["panoptic"])
            for name in ("scores", "ious"):
                figures[name] = tuple(figures[name])
            self._images[content["image"]] = StoredImage(
                ImageFigures(**figures), tuple(content["predicted"]), tuple(content["scores"])
            )
        except (ValueError, KeyError, TypeError):
            return

    def get(self, image: str) -> StoredImage | None:
        """Return an image's results by its key, if they are there."""
        return self._images.get(image)

    def put(self, image: str, stored: StoredImage) -> None:
        """Keep an image's results.

        Raises:
            InputError: if they cannot be written.
        """
        self._images[image] = stored
        if self._path is None:
            return
        line = json.dumps({"image": image, **asdict(stored)}) + "\n"
        try:
            # The break first: a line that was cut off before must not spoil this one.
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"\n{line}" if file.tell() else line)
        except OSError as error:
            raise InputError(f"{self._path}: cannot be written: {error.strerror}") from None
