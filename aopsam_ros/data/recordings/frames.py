"""What every source of pictures gives."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 20  # consecutive frames that show about the same
_SAMPLE = 1 << 20

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Frame:
    """One picture.

    Attributes:
        name: Unique within the source, fit for a file.
        group: Frames of one group show about the same, and never straddle a split.
        read: Makes the picture, `uint8 [H, W, 3]` RGB; raises `InputError` where it is broken.
    """

    name: str
    group: str
    read: Callable[[], NDArray[np.uint8]]


class FrameSource(Protocol):
    """A folder of pictures, a video or a recording."""

    name: str

    def __len__(self) -> int:
        """Count the frames, as far as the file tells without being read."""
        ...

    def key(self) -> str:
        """Say which source this is; frames of the same name and key show the same."""
        ...

    def frames(self) -> Iterator[Frame]:
        """Yield the frames in order; a picture that nobody reads costs little."""
        ...


def numbered(number: int, read: Callable[[], NDArray[np.uint8]], every: int) -> Frame:
    """Make the frame of a number in its recording, of which every `every`-th is taken."""
    group = number // (NEIGHBOURS * every)
    return Frame(f"frame_{number:06}", f"part_{group:04}", read)


def file_key(files: list[Path], *settings: object) -> str:
    """Name files by name, size, beginning and end: a recording may be too large to read whole."""
    digest = hashlib.sha256(repr(settings).encode())
    for path in files:
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(_SAMPLE))
            file.seek(max(0, size - _SAMPLE))
            digest.update(file.read(_SAMPLE))
    return digest.hexdigest()
