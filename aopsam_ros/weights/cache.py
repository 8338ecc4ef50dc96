"""The folder for what is fetched: the user's own, and nobody else's to write in."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from aopsam_ros.errors import WeightsError
from aopsam_ros.weights.known import Weights


def cache_folder() -> Path:
    """Return `$XDG_CACHE_HOME/aopsam_ros/weights`, or the same under `~/.cache`; may not exist."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():  # the XDG specification: a relative path is to be ignored
        base = Path.home() / ".cache"
    return base / "aopsam_ros" / "weights"


def cached_path(weights: Weights) -> Path:
    """Return where a file is, or would be, stored."""
    return cache_folder() / weights.file


def prepare_cache() -> Path:
    """Make the folder, and return it once nobody else can put files there.

    Raises:
        WeightsError: Others can.
        OSError: It cannot be made.
    """
    folder = cache_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_private(folder)
    return folder


def check_private(folder: Path) -> None:
    """Refuse a folder whose files another user could replace.

    Raises:
        WeightsError: It is writable for all or somebody else's, or lies in a folder where everyone
            can replace it.
    """
    folder = folder.resolve()
    owner, user = folder.stat().st_uid, os.getuid()
    if user != 0 and owner not in (0, user):
        raise WeightsError(
            f"{folder}: belongs to another user; set XDG_CACHE_HOME to a folder of your own"
        )
    for path in (folder, *folder.parents):
        mode = path.stat().st_mode
        # In a sticky folder such as /tmp, only the owner can replace what is inside.
        if mode & stat.S_IWOTH and (path == folder or not mode & stat.S_ISVTX):
            raise WeightsError(
                f"{path}: every user can write there, so the weights could be replaced; "
                f"run `chmod o-w {path}`, or set XDG_CACHE_HOME to a folder of your own"
            )
