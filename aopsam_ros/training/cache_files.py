"""Files that save work: named by what they were made of, there whole or not at all."""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.images.files import write_bytes

KEY_LENGTH = 32  # of 64 hexadecimal digits: short names, and still no two alike
_BROKEN = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)


def content_key(*parts: bytes) -> str:
    """Name what consists of these parts."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{len(part)}\n".encode())
        digest.update(part)
    return digest.hexdigest()[:KEY_LENGTH]


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write `.npy`."""
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    _write(path, content)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write `.npz`, compressed."""
    content = io.BytesIO()
    np.savez_compressed(content, **dict(arrays))  # type: ignore[arg-type]
    _write(path, content)


def _write(path: Path, content: io.BytesIO) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content.getvalue())


def is_whole_array(path: Path, shape: tuple[int, ...], dtype: str) -> bool:
    """Return whether a `.npy` is there, of this shape and type, and not cut short."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except _BROKEN:
        return False
    return isinstance(array, np.ndarray) and (array.shape, array.dtype) == (shape, np.dtype(dtype))


def read_arrays(path: Path, *names: str) -> tuple[NDArray[Any], ...] | None:
    """Read some arrays of an `.npz`; None where it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return tuple(arrays[name] for name in names)
    except _BROKEN:
        return None
