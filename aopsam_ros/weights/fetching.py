"""From a published file, or a copy at hand, to a checked file in the user's cache."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from aopsam_ros.errors import InputError, WeightsError
from aopsam_ros.user_folders import check_private
from aopsam_ros.weights.cache import cache_folder, cached_path, prepare_cache
from aopsam_ros.weights.download import download
from aopsam_ros.weights.identity import (
    CHUNK,
    Digests,
    Hasher,
    check_file,
    check_identity,
    check_size,
    digests_of,
    record_of,
)
from aopsam_ros.weights.known import KNOWN, Weights


def fetch(weights: Weights) -> Path:
    """Return the checked file, downloaded unless it is there.

    Raises:
        WeightsError: It cannot be had or stored, or what came is not the published file.
        FolderError: Others could replace it in the cache.
    """
    with _locked_cache(weights) as folder:
        target, partial = folder / weights.file, _partial_of(folder, weights)
        if _is_whole(weights, target):
            return target
        _install(partial, target, _download_checked(weights, partial))
    return target


def take(weights: Weights, source: Path) -> Path:
    """Return the checked file, copied from one at hand.

    Raises:
        WeightsError: That is not the published file, or it cannot be stored; nothing is then.
        FolderError: Others could replace it in the cache.
        InputError: There is no such file.
        OSError: It cannot be opened.
    """
    if not source.is_file():
        raise InputError(f"{source}: no such file")
    check_size(weights, source.stat().st_size, source)
    with source.open("rb") as reader, _locked_cache(weights) as folder:
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            # The copy is what is checked: the source may change meanwhile.
            copy = Path(temporary) / weights.file
            found = _copy(reader, copy)
            check_identity(weights, found, source)
            _install(copy, folder / weights.file, found)
        _partial_of(folder, weights).unlink(missing_ok=True)  # of a download that was given up
        return folder / weights.file


def resolve_checkpoint(name_or_path: str) -> Path:
    """Return the file that a user means: a path, or the name of weights that were fetched.

    Raises:
        WeightsError: The named weights are not there, or not what they were.
        FolderError: Others could replace them.
    """
    path = Path(name_or_path)
    if name_or_path not in KNOWN or path.is_file():  # a folder may be the bundle of that name
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


def _partial_of(folder: Path, weights: Weights) -> Path:
    return folder / f"{weights.file}.partial"


def _is_whole(weights: Weights, target: Path) -> bool:
    try:
        found = check_file(weights, target)
    except WeightsError:
        return False
    if not record_of(target).exists():
        _record(target, found)
    return True


def _copy(reader: BinaryIO, target: Path) -> Digests:
    with target.open("wb") as writer:
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
def _locked_cache(weights: Weights) -> Iterator[Path]:
    """Make the cache's folder, to store a file in it that no other process stores meanwhile.

    Raises:
        WeightsError: Another process does, or it cannot be written.
        FolderError: Others could put files there.
    """
    try:
        folder = prepare_cache()
        with _locked(folder / f"{weights.file}.lock"):
            yield folder
    except BlockingIOError as error:
        raise WeightsError(
            f"{weights.file} is being fetched by another process; wait for it to end"
        ) from error
    except OSError as error:
        raise WeightsError(
            f"{weights.file} cannot be stored under {cache_folder()}: {error}; "
            "XDG_CACHE_HOME can name another folder of yours"
        ) from error


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock, which ends with the process at the latest."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
