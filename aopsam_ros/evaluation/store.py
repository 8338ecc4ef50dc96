"""Results by image on disk, so that an interrupted evaluation goes on where it stopped."""

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from aopsam_ros.errors import InputError

FORMAT = 4  # raise it when what is measured changes


def configuration_key(description: Mapping[str, Any]) -> str:
    """Return a short name that differs for whatever gives other results."""
    try:
        release = version("aopsam_ros")  # another one may find other masks
    except PackageNotFoundError:  # run from its sources
        release = ""
    content = json.dumps({"format": FORMAT, "release": release, **description}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


class Store:
    """Results of one configuration: a line of JSON for each image, appended at once.

    `results` holds them by the image's key.

    Args:
        path: the file; None keeps the results in memory only.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Read what an earlier run left; a line that was cut off is measured again."""
        self._path = path
        self.results: dict[str, dict[str, Any]] = {}
        if path is not None and path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    content = json.loads(line)
                    self.results[content.pop("key")] = content
                except (ValueError, KeyError, TypeError, AttributeError):
                    continue

    def put(self, key: str, results: dict[str, Any]) -> None:
        """Keep an image's results.

        Raises:
            InputError: if they cannot be written.
        """
        self.results[key] = results
        if self._path is None:
            return
        line = json.dumps({"key": key, **results}) + "\n"
        try:
            # The break first: a line that was cut off before must not spoil this one.
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"\n{line}" if file.tell() else line)
        except OSError as error:
            raise InputError(f"{self._path}: cannot be written: {error.strerror}") from None
