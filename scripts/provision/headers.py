"""Python's C headers, which the generated message modules are compiled with.

Debian and Ubuntu keep them in a package of their own that python3 does not bring. Without it, that
package is unpacked into the environment: this needs no root and changes nothing on the machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from provision.console import SetupError

VERSION = f"python{sys.version_info[0]}.{sys.version_info[1]}"


def include_folder(venv: Path) -> Path:
    """Return the folder with Python.h: the machine's, else the one unpacked by `ensure`."""
    installed = Path(sysconfig.get_paths()["include"])
    return installed if (installed / "Python.h").is_file() else _unpacked(venv) / VERSION


def ensure(venv: Path) -> None:
    """Unpack the headers into the environment if the machine has none.

    Raises:
        SetupError: if they cannot be had that way; says what to install.
    """
    if not (include_folder(venv) / "Python.h").is_file():
        _download(venv / "python-dev", f"lib{VERSION}-dev")
    if not (include_folder(venv) / "Python.h").is_file():
        raise SetupError(
            f"Python.h of {sys.executable} is missing: install its development package "
            f"(Debian, Ubuntu: apt install {VERSION}-dev)"
        )


def cmake_arguments(venv: Path) -> list[str]:
    """Return what CMake has to be told; nothing where the headers are in their usual place."""
    folder = include_folder(venv)
    return [f"-DPython3_INCLUDE_DIR={folder}"] if folder.is_relative_to(venv) else []


def compiler_environment(venv: Path) -> dict[str, str]:
    """Return variables for the compiler: Debian's pyconfig.h includes one beside its folder."""
    folder = include_folder(venv)
    return {"CPATH": str(folder.parent)} if folder.is_relative_to(venv) else {}


def _unpacked(venv: Path) -> Path:
    return venv / "python-dev" / "usr" / "include"


def _download(folder: Path, package: str) -> None:
    """Fetch and unpack one package of the system's own package source; quietly gives up."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return
    folder.mkdir(parents=True, exist_ok=True)
    options = {"cwd": folder, "capture_output": True, "check": False, "env": dict(os.environ)}
    subprocess.run(["apt-get", "download", package], **options)  # type: ignore[call-overload]
    for archive in folder.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", archive.name, "."], **options)  # type: ignore[call-overload]
        archive.unlink()
