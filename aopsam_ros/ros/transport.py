"""Fast DDS with room for images, for the processes that this package starts."""

from __future__ import annotations

import os

from aopsam_ros.ros.shipped import shipped_folder

_VARIABLE = "FASTRTPS_DEFAULT_PROFILES_FILE"
# Whoever set one of these has settings of their own.
_CHOICES = (_VARIABLE, "FASTDDS_DEFAULT_PROFILES_FILE", "FASTDDS_BUILTIN_TRANSPORTS")


def room_for_images() -> dict[str, str]:
    """Return what to add to the environment before ROS starts, so that images get through.

    Other middlewares take no notice. Empty where the user has settled how Fast DDS sends.

    Raises:
        InputError: if the settings that come with the package are not installed.
    """
    if any(name in os.environ for name in _CHOICES):
        return {}
    return {_VARIABLE: str(shipped_folder("config") / "fastdds.xml")}
