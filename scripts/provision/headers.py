"""Python's C headers, which the generated message modules are compiled with.

Debian and Ubuntu keep them in a package of their own that python3 does not bring. Without it, that
package is unpacked into the environment: this needs no root and changes nothing on the machine.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from provision.machine import SetupError

VERSION = f"python{sys.version_info[0]}.{sys.version_info[1]}"


def include_folder(venv: Path) -> Path:
    """Return the folder with Python.h: the machine's, else the one unpacked by `ensure`."""
    installed = Path(sysconfig.get_paths()["include"])
    unpacked = venv / "python-dev" / "usr" / "include" / VERSION
    return installed if (installed / "Python.h").is_file() else unpacked


def ensure(venv: Path) -> None:
    """Unpack the headers into the environment if the machine has none.

    Raises:
        SetupError: if they cannot be had that way; says what to install.
    """
    has_apt = shutil.which("apt-get") and shutil.which("dpkg-deb")
    if has_apt and not (include_folder(venv) / "Python.h").is_file():
        folder = venv / "python-dev"
        folder.mkdir()
        download = ["apt-get", "download", f"lib{VERSION}-dev"]
        subprocess.run(download, cwd=folder, capture_output=True, check=False)
        for archive in folder.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", archive.name, "."], cwd=folder, check=False)
    if not (include_folder(venv) / "Python.h").is_file():
        raise SetupError(
            f"Python.h of {sys.executable} is missing: install its development package "
            f"(Debian, Ubuntu: apt install {VERSION}-dev)"
        )
