"""Fast DDS with room for images, for the processes that this package starts."""

from __future__ import annotations

import os
from pathlib import Path

from aopsam_ros.ros.resources import shipped_folder

_VARIABLE = "FASTRTPS_DEFAULT_PROFILES_FILE"
# Who has set one of these, or has this file in the working folder, has settings of their own.
_CHOICES = (_VARIABLE, "FASTDDS_DEFAULT_PROFILES_FILE", "FASTDDS_BUILTIN_TRANSPORTS")
_FILE = "DEFAULT_FASTRTPS_PROFILES.xml"


def room_for_images() -> dict[str, str]:
    """Return what to add to the environment before ROS starts, so that images get through.

    Other middlewares take no notice. Empty where the user has settled how Fast DDS sends, and in
    Humble: whether ROS_LOCALHOST_ONLY still counts beside it has not been tried there.

    Raises:
        InputError: if the settings that come with the package are not installed.
    """
    if any(name in os.environ for name in _CHOICES) or Path(_FILE).exists():
        return {}
    if os.environ.get("ROS_DISTRO") == "humble":
        return {}
    return {_VARIABLE: str(shipped_folder("config") / "fastdds.xml")}
