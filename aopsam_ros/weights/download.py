"""Downloading one file over HTTP: with progress, resumable, never more than was announced."""

from __future__ import annotations

import http.client
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from aopsam_ros.errors import WeightsError
from aopsam_ros.weights.cache import cached_path
from aopsam_ros.weights.known import Weights

TIMEOUT = 30.0  # seconds without a byte
ATTEMPTS = 3
PAUSE = 2.0  # seconds between them
PIECE = 1 << 16
_BROKEN = (http.client.HTTPException, OSError)  # as the network raises them


class _UnfinishedError(Exception):
    """A connection ended before the file did; asking once more may help."""


class _CannotGoOnError(_UnfinishedError):
    """The server has nothing that begins where a former try ended."""


def download(weights: Weights, partial: Path) -> None:
    """Fetch a file into `partial`, from where a former try ended.

    Raises:
        WeightsError: The server cannot be reached, has no such file, or one of another size; what
            came so far is kept.
        OSError: The file cannot be written.
    """
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE)
        reason: object = "the connection was closed"
        try:
            _continue(weights, partial)
        except _CannotGoOnError as error:  # nor could it next time: from the beginning, then
            partial.unlink(missing_ok=True)
            reason = error
        except _UnfinishedError as error:
            reason = error
        if _size(partial) >= weights.size:
            return
    raise WeightsError(
        f"{weights.url}: interrupted after {_size(partial)} of {weights.size} bytes ({reason}); "
        "run the same command to go on"
    )


def _continue(weights: Weights, partial: Path) -> None:
    """Make one request and write what comes."""
    have = _size(partial)
    if have >= weights.size:  # a complete one is judged by its content, by the caller
        return
    with _open(weights, have) as response:
        start = _first_byte(response, have)
        if response.length is not None and start + response.length != weights.size:
            raise WeightsError(
                f"{weights.url}: not the file that is known: it has {start + response.length} bytes"
                f" instead of {weights.size}; {_by_hand(weights)}"
            )
        with partial.open("ab" if start else "wb") as file:
            _copy(response, file, weights, start)


def _open(weights: Weights, have: int) -> http.client.HTTPResponse:
    request = urllib.request.Request(weights.url, headers={"User-Agent": "aopsam_ros"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if have and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise _CannotGoOnError(error) from error
        raise WeightsError(
            f"{weights.url}: the server answers {error.code} {error.reason}; {_by_hand(weights)}"
        ) from error
    except urllib.error.URLError as error:
        raise WeightsError(
            f"{weights.url}: cannot be reached ({error.reason}); behind a proxy, set HTTPS_PROXY; "
            + _by_hand(weights)
        ) from error
    except _BROKEN as error:
        raise _UnfinishedError(error) from error
    return response


def _first_byte(response: http.client.HTTPResponse, have: int) -> int:
    """Return where in the file an answer begins: where we ended, or at 0 as a server may choose."""
    if response.status != http.HTTPStatus.PARTIAL_CONTENT:
        return 0
    if not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
        raise _CannotGoOnError(f"the server does not go on from byte {have}")
    return have


def _copy(response: http.client.HTTPResponse, file: BinaryIO, weights: Weights, have: int) -> None:
    with tqdm(
        total=weights.size, initial=have, unit="B", unit_scale=True, desc=weights.file,
        file=sys.stderr,
    ) as bar:  # fmt: skip
        # Never more than announced, whatever the server sends.
        while have < weights.size and (piece := _read(response, weights.size - have)):
            file.write(piece)
            have += len(piece)
            bar.update(len(piece))


def _read(response: http.client.HTTPResponse, most: int) -> bytes:
    try:
        return response.read1(min(PIECE, most))  # what came, at once: a stall loses none of it
    except _BROKEN as error:
        raise _UnfinishedError(error) from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _by_hand(weights: Weights) -> str:
    return (
        "without internet, fetch the file on another machine and run "
        f"`aopsam models fetch {weights.name} --from FILE`, which stores it as "
        f"{cached_path(weights)}"
    )
