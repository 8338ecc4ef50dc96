"""The groups of packages under requirements/, and which of them a sourced ROS already has."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

from provision.console import SetupError
from provision.machine import Machine

CONSTRAINTS = "constraints"
BASE_GROUPS = ("runtime", "colcon")
WHEEL_GROUPS = ("ros", "build")
EXTRA_GROUPS = ("bench", "dev", "evaluate", "openvino", "record", "train")
# Where the module is not called as the package is.
MODULES = {
    "opencv-python-headless": "cv2",
    "scikit-image": "skimage",
    "scikit-learn": "sklearn",
    "pyyaml": "yaml",
    "types-pyyaml": "yaml-stubs",
    "types-tqdm": "tqdm-stubs",
}


def wanted_groups(machine: Machine, extras: set[str]) -> list[str]:
    """Return the groups to install, in order.

    Raises:
        SetupError: if an extra has no group.
    """
    unknown = extras - set(EXTRA_GROUPS)
    if unknown:
        raise SetupError(
            f"unknown EXTRAS {' '.join(sorted(unknown))}: there are {' '.join(EXTRA_GROUPS)}"
        )
    ros = () if machine.has_system_ros else WHEEL_GROUPS
    return [*BASE_GROUPS, *ros, *sorted(extras)]


def group_key(folder: Path, group: str) -> str:
    """Return a hash that changes with the group's content."""
    content = (folder / f"{group}.txt").read_bytes() + (folder / f"{CONSTRAINTS}.txt").read_bytes()
    return hashlib.sha256(content).hexdigest()


def names(file: Path) -> list[str]:
    """Return the package names in a requirements file, each once, in order."""
    found = re.findall(r"^([A-Za-z0-9][A-Za-z0-9._-]*)", file.read_text(encoding="utf-8"), re.M)
    return list(dict.fromkeys(found))


def missing_packages(python: str, packages: list[str]) -> list[str]:
    """Return those packages whose module this Python cannot find.

    A sourced ROS brings numpy, OpenCV and the rest as system packages that its own modules were
    compiled against; replacing them in the environment would break those.
    """
    modules = {name: MODULES.get(name.lower(), name.replace("-", "_")) for name in packages}
    code = (
        "import importlib.util, shutil, sys\n"
        "for m in sys.argv[1:]:\n"
        "    print(int(bool(importlib.util.find_spec(m) or shutil.which(m))))"
    )
    command = [python, "-c", code, *modules.values()]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return [name for name, found in zip(modules, answer, strict=True) if found == "0"]
