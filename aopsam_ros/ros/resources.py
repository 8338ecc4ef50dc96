"""Files that come with the package: photographs, parameter files, settings of Fast DDS."""

import contextlib
import os
from pathlib import Path

import aopsam_ros
from aopsam_ros.errors import InputError

_PROFILES = "FASTRTPS_DEFAULT_PROFILES_FILE"
# Whoever has set one of these, or has this file in the working folder, has own settings.
_USER_SETTINGS = (_PROFILES, "FASTDDS_DEFAULT_PROFILES_FILE", "FASTDDS_BUILTIN_TRANSPORTS")
_USER_FILE = "DEFAULT_FASTRTPS_PROFILES.xml"


def resource_folder(name: str) -> Path:
    """Return a folder that comes with the package, such as `photographs`.

    Searched in the ROS share folder of the package, inside the Python package (pip) and beside it
    (a source checkout), in this order.

    Raises:
        InputError: if it is in none of these places.
    """
    package = Path(aopsam_ros.__file__).resolve().parent
    places = [package / name, package.parent / name]
    with contextlib.suppress(ImportError, LookupError, OSError):  # without a ROS that knows it
        from ament_index_python.packages import get_package_share_directory

        places.insert(0, Path(get_package_share_directory("aopsam_ros")) / name)
    for place in places:
        if place.is_dir():
            return place
    raise InputError(f"the folder {name} that comes with the package is not installed")


def large_message_environment() -> dict[str, str]:
    """Return environment variables that give Fast DDS shared memory for whole images.

    To be set before ROS starts; other middlewares ignore them. Empty where the user has own
    settings of Fast DDS, and on Humble, where the effect together with ROS_LOCALHOST_ONLY has not
    been tested.

    Raises:
        InputError: if the settings that come with the package are not installed.
    """
    if any(name in os.environ for name in _USER_SETTINGS) or Path(_USER_FILE).exists():
        return {}
    if os.environ.get("ROS_DISTRO") == "humble":
        return {}
    return {_PROFILES: str(resource_folder("config") / "fastdds.xml")}
