"""From a published file, or a copy at hand, to a checked file in the user's cache."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from aopsam_ros.errors import InputError, WeightsError
from aopsam_ros.weights.cache import cached_path, check_private, prepare_cache
from aopsam_ros.weights.download import download
from aopsam_ros.weights.identity import (
    CHUNK,
    Digests,
    Hasher,
    check_file,
    check_identity,
    digests_of,
    record_of,
)
from aopsam_ros.weights.known import KNOWN, Weights


def fetch(weights: Weights) -> Path:
    """Return the checked file, downloaded unless it is there.

    Raises:
        WeightsError: It cannot be had, or what came is not the published file.
        OSError: The cache cannot be written.
    """
    folder = prepare_cache()
    target, partial = folder / weights.file, folder / f"{weights.file}.partial"
    with _locked(folder, weights):
        if _is_whole(weights, target):
            return target
        _install(partial, target, _download_checked(weights, partial))
    return target


def take(weights: Weights, source: Path) -> Path:
    """Return the checked file, copied from one at hand.

    Raises:
        WeightsError: That is not the published file; nothing is stored then.
        InputError: There is no such file.
        OSError: It cannot be read, or the cache not be written.
    """
    if not source.is_file():
        raise InputError(f"{source}: no such file")
    folder = prepare_cache()
    with _locked(folder, weights), tempfile.TemporaryDirectory(dir=folder) as temporary:
        # The copy is what is checked: the source may change meanwhile.
        copy = Path(temporary) / weights.file
        found = _copy(source, copy)
        check_identity(weights, found, source)
        _install(copy, folder / weights.file, found)
    return folder / weights.file


def resolve_checkpoint(name_or_path: str) -> Path:
    """Return the file that a user means: a path, or the name of weights that were fetched.

    Raises:
        WeightsError: The named weights are not there, or not what they were.
    """
    path = Path(name_or_path)
    if name_or_path not in KNOWN or path.exists():
        return path
    weights = KNOWN[name_or_path]
    stored = cached_path(weights)
    check_file(weights, stored)
    check_private(stored.parent)
    return stored


def _download_checked(weights: Weights, partial: Path) -> Digests:
    is_resumed = partial.exists()
    download(weights, partial)
    found = digests_of(partial)
    try:
        check_identity(weights, found, weights.url)
    except WeightsError:
        partial.unlink()
        if not is_resumed:
            raise
        # What a former try left may have been of another file: once more, from the beginning.
        return _download_checked(weights, partial)
    return found


def _is_whole(weights: Weights, target: Path) -> bool:
    try:
        found = check_file(weights, target)
    except WeightsError:
        return False
    if not record_of(target).exists():
        _record(target, found)
    return True


def _copy(source: Path, target: Path) -> Digests:
    with source.open("rb") as reader, target.open("wb") as writer:
        hasher = Hasher(os.fstat(reader.fileno()).st_size)
        while piece := reader.read(CHUNK):
            hasher.update(piece)
            writer.write(piece)
    return hasher.digests()


def _install(checked: Path, target: Path, found: Digests) -> None:
    """Put a checked file in place, whole or not at all, and record its SHA-256."""
    with checked.open("rb+") as file:
        os.fsync(file.fileno())
    record_of(target).unlink(missing_ok=True)
    checked.replace(target)
    _record(target, found)


def _record(target: Path, found: Digests) -> None:
    record = record_of(target)
    partial = record.with_name(f"{record.name}.partial")
    partial.write_text(f"{found.sha256}  {target.name}\n", encoding="utf-8")
    partial.replace(record)


@contextlib.contextmanager
def _locked(folder: Path, weights: Weights) -> Iterator[None]:
    """Keep other processes from fetching the same file; the lock ends with the process."""
    with (folder / f"{weights.file}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise WeightsError(
                f"{weights.file} is being fetched by another process; wait for it to end"
            ) from error
        yield
