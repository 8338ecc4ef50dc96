"""Checkpoint files: written whole or not at all, read without running code in them."""

import io
import pickle
import stat
import warnings
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from aopsam_ros.errors import InputError, first_line
from aopsam_ros.images.files import write_bytes

MAX_BYTES = 4 << 30  # of a checkpoint, also unpacked; the largest SAM has 2.6 GB


def save_atomically(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint so that a stop half-way leaves the former one whole.

    Raises:
        OSError: if it cannot be written.
    """
    content = io.BytesIO()  # torch itself raises a RuntimeError where the disk is full
    torch.save(state, content)
    write_bytes(path, content.getvalue())


def load_state(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a dictionary of tensors and plain values; code in the file is never run.

    Of a `NAME.zip`, the file NAME in it is read.

    Raises:
        InputError: if there is no such file, or it is something else.
    """
    try:
        source = _checked(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about formats that are then refused
            state = torch.load(source, map_location=device, weights_only=True)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such checkpoint") from error
    except Exception as error:  # damaged bytes can make torch raise anything
        raise InputError(f"{path}: not a readable checkpoint ({_reason(error)})") from error
    if not isinstance(state, dict):
        raise InputError(f"{path}: not a checkpoint, it holds a {type(state).__name__}")
    return state


def _checked(path: Path) -> Path | io.BytesIO:
    """Refuse what could fill the memory: a device, a huge file, a small one that unpacks to one."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path}: not a file")
    _check_size(path, path, status.st_size)
    if path.suffix != ".zip":
        return path
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if PurePosixPath(name).name == path.stem:
                inner = io.BytesIO(archive.read(name))
                _check_size(path, inner, 0)
                inner.seek(0)
                return inner
    raise InputError(f"{path}: holds no {path.stem}")


def _check_size(path: Path, content: Path | io.BytesIO, size: int) -> None:
    if zipfile.is_zipfile(content):
        with zipfile.ZipFile(content) as archive:
            size = max(size, sum(entry.file_size for entry in archive.infolist()))
    if size > MAX_BYTES:
        raise InputError(f"{path}: {size} bytes, more than the {MAX_BYTES} allowed")


def _reason(error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError) or "weights_only" in str(error):
        # Torch's own words explain how to load the file nevertheless, and so run code in it.
        return "it is damaged, or holds more than tensors and plain values"
    return first_line(error)


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint that this project wrote.

    Raises:
        InputError: if there is no such file, or it is not one of ours.
    """
    state = load_state(path, device)
    if not isinstance(state.get("model"), dict):
        raise InputError(f"{path}: holds no model weights")
    if not isinstance(state.get("options", {}), dict):
        raise InputError(f"{path}: holds no options of a training")
    return state
