"""Builds the interfaces and installs the package into the environment, when something changed."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path

from provision import headers, stamp
from provision.console import run_step
from provision.environment import process_environment, python_of
from provision.machine import Machine

# Folders whose files are linked into the environment one by one: an edit is live at once, only a
# file that comes or goes needs a build.
LINKED = ("aopsam_ros", "benchmarks", "bundles", "launch", "config", "rviz", "photographs")
COMPILED = ("CMakeLists.txt", "package.xml", "msg", "srv", "scripts/cmake")
COLCON = "import sys; from colcon_core.command import main; sys.exit(main())"


def package_keys(root: Path, machine: Machine) -> dict[str, str]:
    """Return the packages to build, in order, each with a key that changes when it has to be."""
    packages = {}
    if not machine.has_ros_package("vision_msgs"):
        packages["vision_msgs"] = _hash(root, contents=["interfaces/vision_msgs"])
    packages["aopsam_ros"] = _hash(root, contents=COMPILED, listed=LINKED)
    return packages


def build(root: Path, venv: Path, machine: Machine, packages: list[str]) -> None:
    """Build packages and install them, as links, into the environment itself."""
    if "aopsam_ros" in packages:
        _remove_installed(venv)
    command = [
        *(python_of(venv), "-c", COLCON, "--log-base", str(venv / stamp.FOLDER / "colcon")),
        *("build", "--paths", str(root), str(root / "interfaces" / "vision_msgs")),
        *("--build-base", str(venv / "build"), "--install-base", str(venv), "--merge-install"),
        *("--symlink-install", "--cmake-force-configure", "--event-handlers", "console_direct+"),
        *("--packages-select", *packages),
        *("--cmake-args", "-DBUILD_TESTING=OFF", "-DCMAKE_BUILD_TYPE=Release"),
        *(f"-DPython3_EXECUTABLE={python_of(venv)}", "-DPython3_FIND_VIRTUALENV=ONLY"),
        *headers.cmake_arguments(venv),
    ]
    log = venv / stamp.FOLDER / "build.log"
    title = f"build {' and '.join(packages)}"
    env = process_environment(venv, machine) | headers.compiler_environment(venv)
    run_step(title, command, log, env, cwd=root)


def _remove_installed(venv: Path) -> None:
    """Remove the package's links, so that none is left of a file that is gone."""
    modules = f"lib/{headers.VERSION}/site-packages"
    for folder in (modules, "lib", "share"):
        shutil.rmtree(venv / folder / "aopsam_ros", ignore_errors=True)
    shutil.rmtree(venv / modules / "aopsam_benchmarks", ignore_errors=True)


def _hash(root: Path, contents: Iterable[str], listed: Iterable[str] = ()) -> str:
    """Hash the content of some files, and only the names of others."""
    digest = hashlib.sha256(str(root).encode())
    for file in _files(root, contents):
        digest.update(f"{file.relative_to(root)}\n".encode() + file.read_bytes())
    for file in _files(root, listed):
        digest.update(f"{file.relative_to(root)}\n".encode())
    return digest.hexdigest()


def _files(root: Path, names: Iterable[str]) -> list[Path]:
    found = []
    for name in names:
        path = root / name
        files = path.rglob("*") if path.is_dir() else [path]
        found += [f for f in files if f.is_file() and "__pycache__" not in f.parts]
    return sorted(found)
