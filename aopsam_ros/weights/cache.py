"""The folder for what is fetched: the user's own, and nobody else's to write in."""

from __future__ import annotations

from pathlib import Path

from aopsam_ros.user_folders import make_private, user_cache
from aopsam_ros.weights.known import Weights


def cache_folder() -> Path:
    """Return the folder for weights in the user's cache; may not exist."""
    return user_cache("weights")


def cached_path(weights: Weights) -> Path:
    """Return where a file is, or would be, stored."""
    return cache_folder() / weights.file


def prepare_cache() -> Path:
    """Make the folder, and return it once nobody else can put files there.

    Raises:
        FolderError: Others can.
        OSError: It cannot be made.
    """
    folder = cache_folder()
    make_private(folder)
    return folder
