"""Frames: images without labels, and what gives them."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 20  # consecutive frames that show about the same
_SAMPLE = 1 << 20  # bytes of a file that are hashed, at its beginning and at its end


@dataclass(frozen=True)
class SourceFrame:
    """One image; `read` decodes it to RGB, `uint8 [H, W, 3]`, or raises `InputError`."""

    name: str  # unique within the source, fit for a file
    group: str  # frames of one group show about the same, and never straddle a split
    read: Callable[[], NDArray[np.uint8]]
    # nanoseconds, when it was recorded or since the video's beginning; None: unknown
    stamp: int | None = None
    file: Path | None = None  # that holds this image and nothing else


class FrameSource(Protocol):
    """A folder of images, a video or a recording."""

    name: str
    rate: float  # frames a second; 0: unknown

    def __len__(self) -> int:
        """Return the number of frames that the file declares."""
        ...

    def key(self) -> str:
        """Identify the source: frames of the same key and name show the same."""
        ...

    def frames(self) -> Iterator[SourceFrame]:
        """Yield the frames in order; one that nobody reads is not decoded."""
        ...


def numbered_frame(
    number: int, read: Callable[[], NDArray[np.uint8]], every: int, stamp: int | None
) -> SourceFrame:
    """Return the frame of a number in its recording, of which every `every`-th is taken."""
    group = number // (NEIGHBOURS * every)
    return SourceFrame(f"frame_{number:06}", f"part_{group:04}", read, stamp)


def known_rate(rate: float) -> float:
    """Return frames a second, or 0 where a file states what no camera does."""
    return rate if 0.01 <= rate <= 500 else 0.0


def file_key(files: list[Path], *settings: object) -> str:
    """Hash names, sizes, beginnings and ends: a recording may be too large to read whole."""
    digest = hashlib.sha256(repr(settings).encode())
    for path in files:
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode(errors="surrogateescape"))
        with path.open("rb") as file:
            digest.update(file.read(_SAMPLE))
            file.seek(max(0, size - _SAMPLE))
            digest.update(file.read(_SAMPLE))
    return digest.hexdigest()
