"""Is this the published file? Size, git's name of the content, and a SHA-256 of one's own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from aopsam_ros.errors import WeightsError
from aopsam_ros.weights.known import Weights

CHUNK = 1 << 20


@dataclass(frozen=True)
class Digests:
    """What a file is."""

    size: int
    git_blob: str
    sha256: str


class Hasher:
    """Takes a file of known size piece by piece."""

    def __init__(self, size: int) -> None:
        self._size = size
        # Git's names are SHA-1. That is no choice of ours, and finding another file of the same
        # name and size is still out of reach.
        self._git = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
        self._sha256 = hashlib.sha256()

    def update(self, piece: bytes) -> None:
        """Take the next bytes."""
        self._git.update(piece)
        self._sha256.update(piece)

    def digests(self) -> Digests:
        """Return the result, once everything was taken."""
        return Digests(self._size, self._git.hexdigest(), self._sha256.hexdigest())


def digests_of(path: Path) -> Digests:
    """Read a file.

    Raises:
        OSError: It cannot be read.
    """
    hasher = Hasher(path.stat().st_size)
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            hasher.update(piece)
    return hasher.digests()


def check_identity(weights: Weights, found: Digests, origin: object) -> None:
    """Compare a file with the published one; `origin` names it in the message.

    Raises:
        WeightsError: It is another one; the message says what differs.
    """
    check_size(weights, found.size, origin)
    if found.git_blob != weights.git_blob:
        raise WeightsError(
            f"{origin}: damaged, or not the published {weights.file}: its content is "
            f"{found.git_blob[:12]}..., not {weights.git_blob[:12]}..."
        )


def check_size(weights: Weights, size: int, origin: object) -> None:
    """Compare only a file's size with the published one's, before all of it is read.

    Raises:
        WeightsError: It is another one.
    """
    if size != weights.size:
        state = "truncated" if size < weights.size else "another file"
        raise WeightsError(
            f"{origin}: {state}: it has {size} bytes, {weights.file} has {weights.size}"
        )


def record_of(path: Path) -> Path:
    """Return where a file's SHA-256 is recorded, in the format of `sha256sum`."""
    return path.with_name(f"{path.name}.sha256")


def check_file(weights: Weights, path: Path) -> Digests:
    """Check a stored file against the published one and against its recorded SHA-256.

    Raises:
        WeightsError: It is missing, differs, or the record does.
        OSError: It cannot be read.
    """
    if not path.exists():
        raise WeightsError(f"{path}: not there; run `aopsam models fetch {weights.name}`")
    check_size(weights, path.stat().st_size, path)
    found = digests_of(path)
    check_identity(weights, found, path)
    record = record_of(path)
    if record.exists() and record.read_bytes().split()[:1] != [found.sha256.encode()]:
        raise WeightsError(
            f"{path}: differs from the SHA-256 beside it in {record.name}; remove both and fetch "
            "again"
        )
    return found
