"""Builds the interfaces and installs a package into the environment, as links to the sources."""

from __future__ import annotations

import shutil
from pathlib import Path

from provision import headers
from provision.machine import Machine, check_build_tools, python_of, run

COLCON = "import sys; from colcon_core.command import main; sys.exit(main())"


def build(root: Path, venv: Path, machine: Machine, package: str) -> None:
    """Build `aopsam_ros`, or `vision_msgs` where no sourced ROS has it."""
    if machine.has_ros_package(package):
        return
    check_build_tools()
    if package == "aopsam_ros":
        _remove_installed(venv)
    print(f"setup: build {package}", flush=True)
    env, arguments = machine.environment(venv), []
    folder = headers.include_folder(venv)
    if folder.is_relative_to(venv):  # Debian's pyconfig.h includes one beside its folder
        env["CPATH"] = str(folder.parent)
        arguments.append(f"-DPython3_INCLUDE_DIR={folder}")
    python = python_of(venv)
    command = [
        *(python, "-c", COLCON, "--log-base", str(venv / "build" / "log")),
        *("build", "--paths", str(root), str(root / "interfaces" / "vision_msgs")),
        *("--build-base", str(venv / "build"), "--install-base", str(venv), "--merge-install"),
        *("--symlink-install", "--cmake-force-configure", "--packages-select", package),
        *("--cmake-args", "-DBUILD_TESTING=OFF", "-DCMAKE_BUILD_TYPE=Release"),
        *(f"-DPython3_EXECUTABLE={python}", "-DPython3_FIND_VIRTUALENV=ONLY", *arguments),
    ]
    run(command, env, cwd=root)


def _remove_installed(venv: Path) -> None:
    """Remove the package's links, so that none is left of a file that is gone."""
    modules = f"lib/{headers.VERSION}/site-packages"
    for folder in (modules, "lib", "share"):
        shutil.rmtree(venv / folder / "aopsam_ros", ignore_errors=True)
    shutil.rmtree(venv / modules / "aopsam_benchmarks", ignore_errors=True)
