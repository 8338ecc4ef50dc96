"""Where the folders are that come with the package: photographs, settings."""

from __future__ import annotations

from pathlib import Path

import aopsam_ros
from aopsam_ros.errors import InputError


def shipped_folder(name: str) -> Path:
    """Return a folder that comes with the package, such as `photographs`.

    Looked for in the ROS share folder of the package, inside the Python package (pip) and beside it
    (a source checkout), in this order.

    Raises:
        InputError: if it is in none of these places.
    """
    package = Path(aopsam_ros.__file__).resolve().parent
    places = [package / name, package.parent / name]
    share = _share_folder()
    if share is not None:
        places.insert(0, share / name)
    for place in places:
        if place.is_dir():
            return place
    raise InputError(f"the folder {name} that comes with the package is not installed")


def _share_folder() -> Path | None:
    try:
        from ament_index_python.packages import (
            PackageNotFoundError,
            get_package_share_directory,
        )
    except ImportError:
        return None
    try:
        return Path(get_package_share_directory("aopsam_ros"))
    except (PackageNotFoundError, OSError):  # OSError: no ROS environment is set up
        return None
