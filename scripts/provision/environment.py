"""The virtual environment: made, filled with packages, repaired, and given an activation script."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from provision import headers, stamp
from provision.console import SetupError, run_step
from provision.machine import Machine
from provision.requirements import CONSTRAINTS, missing_packages, names

MARK = "# --- added for ROS 2 by make setup ---"


def python_of(venv: Path) -> str:
    """Return the environment's interpreter."""
    return str(venv / "bin" / "python")


def process_environment(venv: Path, machine: Machine) -> dict[str, str]:
    """Return the environment variables for a process that works inside the environment."""
    env = dict(os.environ, VIRTUAL_ENV=str(venv))
    env["PATH"] = os.pathsep.join([str(venv / "bin"), env.get("PATH", os.defpath)])
    env.pop("PYTHONHOME", None)
    if not machine.has_system_ros:
        env.pop("PYTHONPATH", None)
        env["AMENT_PREFIX_PATH"] = env["CMAKE_PREFIX_PATH"] = str(venv)
    return env


def create(venv: Path, machine: Machine) -> None:
    """Make an empty environment in place of whatever an interrupted run left.

    Raises:
        SetupError: if the folder holds something that this script did not make.
    """
    if not stamp.is_ours(venv):
        raise SetupError(f"{venv} was not made by make setup: move it away first")
    shutil.rmtree(venv, ignore_errors=True)
    (venv / stamp.FOLDER).mkdir(parents=True)
    command = [machine.python, "-m", "venv", str(venv)]
    if machine.has_system_ros:
        command.append("--system-site-packages")
    log = venv / stamp.FOLDER / "venv.log"
    run_step("create the Python environment", command, log, dict(os.environ))
    _extend_activation(venv, machine)


def install(venv: Path, machine: Machine, folder: Path, groups: Sequence[str]) -> None:
    """Install groups of packages; with a sourced ROS only what it lacks."""
    files = [folder / f"{group}.txt" for group in groups]
    if machine.has_system_ros:
        arguments = missing_packages(python_of(venv), [n for file in files for n in names(file)])
        if not arguments:
            return
        arguments += _compatible_numpy(venv)
    else:
        arguments = ["-c", str(folder / f"{CONSTRAINTS}.txt")]
        arguments += [text for file in files for text in ("-r", str(file))]
    command = [python_of(venv), "-m", "pip", "install", "--no-input", *arguments]
    log = venv / stamp.FOLDER / "pip.log"
    title = f"install packages ({', '.join(groups)})"
    run_step(title, command, log, process_environment(venv, machine))
    if not machine.has_system_ros:
        repair_exported_paths(venv)


def repair_exported_paths(venv: Path) -> None:
    """Point the wheels' CMake files at this Python; they name the one they were built with."""
    include = str(headers.include_folder(venv))
    packages = _site_packages(venv)
    for file in (venv / "share").rglob("*.cmake"):
        text = file.read_text(encoding="utf-8")
        built = r"/opt/python/cp\d+-cp\d+"
        new = re.sub(built + r"/include/python3\.\d+", include, text)
        new = re.sub(built + r"/lib/python3\.\d+/site-packages", packages, new)
        if new != text:
            file.write_text(new, encoding="utf-8")


def _site_packages(venv: Path) -> str:
    return str(venv / "lib" / headers.VERSION / "site-packages")


def _compatible_numpy(venv: Path) -> list[str]:
    """Keep to numpy 1 where the sourced ROS was compiled against it."""
    code = "import numpy; print(numpy.__version__)"
    command = [python_of(venv), "-c", code]
    version = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return ["numpy<2"] if version.startswith("1.") else []


def _extend_activation(venv: Path, machine: Machine) -> None:
    """Make activating the environment all that a user has to do to have ROS and this package."""
    lines = [
        "",
        MARK,
        'export AMENT_PREFIX_PATH="$VIRTUAL_ENV${AMENT_PREFIX_PATH:+:$AMENT_PREFIX_PATH}"',
        'export CMAKE_PREFIX_PATH="$VIRTUAL_ENV${CMAKE_PREFIX_PATH:+:$CMAKE_PREFIX_PATH}"',
        'export LD_LIBRARY_PATH="$VIRTUAL_ENV/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"',
    ]
    if not machine.has_system_ros:
        lines.append('export RMW_IMPLEMENTATION="${RMW_IMPLEMENTATION:-rmw_fastrtps_cpp}"')
    with (venv / "bin" / "activate").open("a", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
