"""Downloading one file over HTTP: with progress, resumable, never more than was announced."""

from __future__ import annotations

import http.client
import re
import sys
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
PIECE = 1 << 16
_BROKEN = (http.client.HTTPException, TimeoutError, ConnectionError)


def download(weights: Weights, partial: Path) -> None:
    """Fetch a file into `partial`, from where a former try ended.

    Raises:
        WeightsError: The server cannot be reached, has no such file, or one of another size; what
            came so far is kept.
        OSError: The file cannot be written.
    """
    for attempt in range(ATTEMPTS):
        try:
            _continue(weights, partial)
        except _BROKEN as error:
            if attempt + 1 == ATTEMPTS:
                raise WeightsError(_interrupted(weights, partial, error)) from error
        else:
            if _size(partial) >= weights.size:
                return
    raise WeightsError(_interrupted(weights, partial, "the connection was closed"))


def _continue(weights: Weights, partial: Path) -> None:
    """Make one request and write what comes."""
    have = _size(partial)
    if have >= weights.size:  # a complete one is judged by its content, by the caller
        return
    with _open(weights, have) as response:
        start = have if _goes_on(response, have) else 0
        announced = response.headers.get("Content-Length")
        if announced is not None and start + int(announced) != weights.size:
            raise WeightsError(
                f"{weights.url}: not the file that is known: it has {start + int(announced)} bytes "
                f"instead of {weights.size}; {_by_hand(weights)}"
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
        raise WeightsError(
            f"{weights.url}: the server answers {error.code} {error.reason}; {_by_hand(weights)}"
        ) from error
    except urllib.error.URLError as error:
        raise WeightsError(
            f"{weights.url}: cannot be reached ({error.reason}); behind a proxy, set HTTPS_PROXY; "
            + _by_hand(weights)
        ) from error
    return response


def _goes_on(response: http.client.HTTPResponse, have: int) -> bool:
    """Return whether the answer begins where we ended; a server may send the whole file anyway."""
    part = response.headers.get("Content-Range", "")
    is_partial = response.status == http.HTTPStatus.PARTIAL_CONTENT
    if is_partial and re.match(rf"bytes {have}-", part) is None:
        raise http.client.HTTPException(f"asked for bytes from {have}, got '{part}'")
    return is_partial


def _copy(response: http.client.HTTPResponse, file: BinaryIO, weights: Weights, have: int) -> None:
    with tqdm(
        total=weights.size, initial=have, unit="B", unit_scale=True, desc=weights.file,
        file=sys.stderr,
    ) as bar:  # fmt: skip
        # Never more than announced, whatever the server sends.
        while have < weights.size and (piece := response.read(min(PIECE, weights.size - have))):
            file.write(piece)
            have += len(piece)
            bar.update(len(piece))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _interrupted(weights: Weights, partial: Path, reason: object) -> str:
    return (
        f"{weights.url}: interrupted after {_size(partial)} of {weights.size} bytes ({reason}); "
        "run the same command to go on"
    )


def _by_hand(weights: Weights) -> str:
    return (
        "without internet, fetch the file on another machine and run "
        f"`aopsam models fetch {weights.name} --from FILE`, which stores it as "
        f"{cached_path(weights)}"
    )
