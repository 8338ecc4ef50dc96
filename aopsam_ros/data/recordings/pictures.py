"""A folder of pictures."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

from aopsam_ros.data.labelled_images import IMAGE_SUFFIXES
from aopsam_ros.data.recordings.frames import Frame
from aopsam_ros.errors import DatasetError
from aopsam_ros.images.files import read_rgb


class PictureFolder:
    """Every picture that lies in a folder, each a group of its own."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path.resolve(), path.resolve().name
        self.files = sorted(f for f in path.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES)
        if not self.files:
            raise DatasetError(f"{path}: no picture in this folder ({', '.join(IMAGE_SUFFIXES)})")

    def __len__(self) -> int:
        return len(self.files)

    def key(self) -> str:
        """Say which folder it is; what its pictures show is told by the frames' names."""
        return str(self.path)

    def frames(self) -> Iterator[Frame]:
        """See `FrameSource`."""
        for file in self.files:
            content = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
            yield Frame(f"{file.stem}-{content}", file.stem, functools.partial(read_rgb, file))
