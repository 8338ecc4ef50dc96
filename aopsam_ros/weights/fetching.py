"""From a published file, or a copy of it, to a checked file in the user's cache."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from aopsam_ros.errors import InputError, WeightsError
from aopsam_ros.user_folders import check_private, make_private, user_cache
from aopsam_ros.weights.known import KNOWN, Weights

TIMEOUT = 30.0  # seconds without a byte
CHUNK = 1 << 16  # bytes


def cached_path(weights: Weights) -> Path:
    """Return where a file is, or would be, stored."""
    return user_cache("weights") / weights.file


def fetch(weights: Weights) -> Path:
    """Return the checked file, downloaded unless it is in the cache.

    Raises:
        WeightsError: if it cannot be downloaded or stored, or is not the published file.
        FolderError: if other users could replace it in the cache.
    """
    with _writable_cache(weights) as folder:
        path = folder / weights.file
        with contextlib.suppress(WeightsError):
            check_file(weights, path)
            return path
        path.unlink(missing_ok=True)  # pooch keeps whatever it has no SHA-256 of
        _download(weights, folder)
        try:
            check_file(weights, path)
        except WeightsError:
            path.unlink(missing_ok=True)
            raise
        return path


def fetch_from_file(weights: Weights, source: Path) -> Path:
    """Return the checked file, copied from `source`.

    Raises:
        WeightsError: `source` is not the published file, or cannot be stored; nothing is then.
        FolderError: if other users could replace the file in the cache.
        InputError: if there is no such file.
    """
    if not source.is_file():
        raise InputError(f"{source}: no such file")
    with _writable_cache(weights) as folder, tempfile.TemporaryDirectory(dir=folder) as temporary:
        # The copy is checked, not the source, which may change meanwhile.
        copy = Path(shutil.copyfile(source, Path(temporary) / weights.file))
        _check(weights, copy, source)
        copy.replace(folder / weights.file)
    return folder / weights.file


def resolve_checkpoint(name_or_path: str) -> Path:
    """Return the checkpoint that a user names: a path, or the name of weights that were fetched.

    Raises:
        WeightsError: if the named weights are not there, or damaged.
        FolderError: if other users could replace them.
    """
    path = Path(name_or_path)
    if name_or_path not in KNOWN or path.is_file():  # a folder may be the bundle of that name
        return path
    weights = KNOWN[name_or_path]
    stored = cached_path(weights)
    check_file(weights, stored)
    check_private(stored.parent)
    return stored


def check_file(weights: Weights, path: Path) -> None:
    """Check a stored file against the published size, SHA-256 and git id.

    Raises:
        WeightsError: if it is missing or differs.
        OSError: if it cannot be read.
    """
    if not path.exists():
        raise WeightsError(f"{path}: not there; run `aopsam models fetch {weights.name}`")
    _check(weights, path, path)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    return _digest(path, hashlib.sha256())


def _check(weights: Weights, path: Path, origin: Path) -> None:
    size = path.stat().st_size
    if weights.size and size != weights.size:
        state = "truncated" if size < weights.size else "another file"
        found = f"it has {size} bytes, {weights.file} has {weights.size}"
        raise WeightsError(f"{origin}: {state}: {found}")
    header = f"blob {size}\0".encode()
    git_blob = _digest(path, hashlib.sha1(header, usedforsecurity=False))
    pairs = (weights.sha256, file_sha256(path)), (weights.git_blob, git_blob)
    if any(published and published != found for published, found in pairs):
        raise WeightsError(f"{origin}: damaged, or not the published {weights.file}")
    with path.open("rb") as file:
        if file.read(1) == b"<":  # a server's excuse, which matters where no hash is published
            raise WeightsError(f"{origin}: a web page, not {weights.file}")


def _digest(path: Path, digest: hashlib._Hash) -> str:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _download(weights: Weights, folder: Path) -> None:
    """Download a file with pooch; one of wrong SHA-256 does not get into place."""
    by_hand = (
        "without internet, fetch the file on another machine and run `aopsam models fetch"
        f" {weights.name} --from FILE`, which stores it as {cached_path(weights)}"
    )
    try:
        import pooch
        import requests
    except ImportError as error:
        advice = f"downloading needs pooch ({error}): `pip install pooch`; {by_hand}"
        raise WeightsError(advice) from error
    pooch.get_logger().setLevel(logging.WARNING)  # the progress bar tells the same
    size = weights.size or 1  # pooch asks the server, but wants a bar with a size
    print(f"{weights.file}: licence {weights.licence}, from {weights.url}", file=sys.stderr)
    with tqdm(total=size, desc=weights.file, unit="B", unit_scale=True, file=sys.stderr) as bar:
        downloader = pooch.HTTPDownloader(bar, CHUNK, timeout=TIMEOUT)
        try:
            known = f"sha256:{weights.sha256}" if weights.sha256 else None
            pooch.retrieve(weights.url, known, weights.file, folder, downloader=downloader)
        except ValueError as error:  # pooch's error of a hash that differs
            raise WeightsError(
                f"{weights.url}: damaged, or not the published {weights.file}; {by_hand}"
            ) from error
        except requests.RequestException as error:
            raise WeightsError(
                f"{weights.url}: cannot be downloaded ({_root_cause(error)}); behind a proxy, set"
                f" HTTPS_PROXY; {by_hand}"
            ) from error


def _root_cause(error: BaseException) -> BaseException:
    """Return the first of a chain of errors, which says most in the fewest words."""
    while error.__context__ is not None:
        error = error.__context__
    return error


@contextlib.contextmanager
def _writable_cache(weights: Weights) -> Iterator[Path]:
    """Make the cache's folder, and name it where it cannot be written.

    Raises:
        WeightsError: if it cannot be made, or a file cannot be written there.
        FolderError: if other users could replace files there.
    """
    folder = cached_path(weights).parent
    try:
        make_private(folder)
        yield folder
    except OSError as error:
        raise WeightsError(
            f"{weights.file} cannot be stored under {folder}: {error}; "
            "XDG_CACHE_HOME can name another folder of yours"
        ) from error
