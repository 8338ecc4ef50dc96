"""The user's own folders, and the proof that nobody else can put files there."""

import os
import stat
from pathlib import Path

from aopsam_ros.errors import FolderError


def user_cache(kind: str) -> Path:
    """Return `$XDG_CACHE_HOME/aopsam_ros/KIND`, or the same under `~/.cache`; may not exist."""
    return _base("XDG_CACHE_HOME", ".cache") / "aopsam_ros" / kind


def user_data(kind: str) -> Path:
    """Return `$XDG_DATA_HOME/aopsam_ros/KIND`, or under `~/.local/share`; may not exist."""
    return _base("XDG_DATA_HOME", ".local/share") / "aopsam_ros" / kind


def _base(variable: str, default: str) -> Path:
    base = Path(os.environ.get(variable, ""))
    if base.is_absolute():  # the XDG specification: a relative path is to be ignored
        return base
    try:
        return Path.home() / default
    except RuntimeError:
        # A user of a container may have no home. Debian's name for that: nothing is found there,
        # and a write fails with the system's error.
        return Path("/nonexistent") / default


def make_private(folder: Path) -> None:
    """Make a folder for the user alone, and check that it is.

    Raises:
        FolderError: if others can write there.
        OSError: if it cannot be made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_private(folder)


def check_private(folder: Path) -> None:
    """Refuse a folder whose files another user could replace.

    Raises:
        FolderError: if it is writable for all or somebody else's, or lies in a folder where
            everyone can replace it.
    """
    folder = folder.resolve()
    owner, user = folder.stat().st_uid, os.getuid()
    if user != 0 and owner not in (0, user):
        raise FolderError(
            f"{folder}: belongs to another user; set XDG_CACHE_HOME to a folder of your own"
        )
    for path in (folder, *folder.parents):
        mode = path.stat().st_mode
        # In a sticky folder such as /tmp, only the owner can replace what is inside.
        if mode & stat.S_IWOTH and (path == folder or not mode & stat.S_ISVTX):
            raise FolderError(
                f"{path}: every user can write there, so what is in it could be replaced; "
                f"run `chmod o-w {path}`, or set XDG_CACHE_HOME to a folder of your own"
            )
