"""What this machine has: the Python to build on, a sourced ROS 2, a compiler."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

NEWEST_WITH_WHEELS = (3, 13)
SYSTEM_PYTHON = "/usr/bin/python3"  # what ROS's own packages are built for


class SetupError(Exception):
    """Something is missing or failed; the message is one line that says what to do."""


@dataclass(frozen=True)
class Machine:
    """The Python that the environment is made from, and where ROS comes from."""

    python: str
    python_version: str
    ros_distro: str  # empty: no ROS is sourced, it comes from wheels
    ros_prefixes: tuple[Path, ...]

    @property
    def has_system_ros(self) -> bool:
        """Whether a sourced ROS 2 is used instead of the wheels."""
        return bool(self.ros_distro)

    @property
    def key(self) -> str:
        """Text that changes whenever the environment has to be made anew."""
        return f"{self.python} {self.python_version} {self.ros_distro or 'wheels'}\n"

    def has_ros_package(self, name: str) -> bool:
        """Whether a package of the sourced ROS, or of a workspace on top of it, has this name."""
        return any((p / "share" / name / "package.xml").is_file() for p in self.ros_prefixes)

    def environment(self, venv: Path) -> dict[str, str]:
        """Return the environment variables for a process that works inside the environment."""
        env = dict(os.environ, VIRTUAL_ENV=str(venv))
        env["PATH"] = os.pathsep.join([str(venv / "bin"), env.get("PATH", os.defpath)])
        for name in ("PYTHONHOME", "MAKEFLAGS", "MAKELEVEL"):  # of the make that started this
            env.pop(name, None)
        if not self.has_system_ros:
            env.pop("PYTHONPATH", None)
            env["AMENT_PREFIX_PATH"] = env["CMAKE_PREFIX_PATH"] = str(venv)
        return env


def python_of(venv: Path) -> str:
    """Return the environment's interpreter."""
    return str(venv / "bin" / "python")


def run(command: Sequence[str], env: Mapping[str, str], cwd: Path | None = None) -> None:
    """Run a command; its output is the user's to see.

    Raises:
        SetupError: if it exits with another status than 0.
        KeyboardInterrupt: if a signal ended it.
    """
    status = subprocess.run(command, env=dict(env), cwd=cwd, check=False).returncode
    if status < 0:
        raise KeyboardInterrupt
    if status > 0:
        tool = next((word for word in ("pip", "venv") if word in command), "colcon")
        raise SetupError(f"{tool} failed with exit status {status}; what it said stands above")


def inspect_machine(venv: Path) -> Machine:
    """Find out what there is.

    Raises:
        SetupError: if no environment can be made here; says what to install.
    """
    python = _base_python()
    distro = os.environ.get("ROS_DISTRO", "") if os.environ.get("AMENT_PREFIX_PATH") else ""
    if distro:
        _check_can_import_rclpy(python, distro)
    else:
        check_wheels_exist()
    _check_venv_module()
    return Machine(python, sys.version, distro, _ros_prefixes(venv) if distro else ())


def check_build_tools() -> None:
    """Check for what compiling the interfaces needs.

    Raises:
        SetupError: if a compiler or make is missing.
    """
    if not (_command("CXX", "c++", "g++", "clang++") and _command("CC", "cc", "gcc", "clang")):
        raise SetupError("no C++ compiler found: install g++ (Debian, Ubuntu: apt install g++)")
    if not _command("MAKE", "make"):
        raise SetupError("make not found: install it (Debian, Ubuntu: apt install make)")


def _command(variable: str, *names: str) -> str | None:
    chosen = os.environ.get(variable, "").split()
    return shutil.which(chosen[0]) if chosen else next(filter(None, map(shutil.which, names)), None)


def _base_python() -> str:
    """Return this interpreter, or the one below it if it is a virtual environment's own."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def _ros_prefixes(venv: Path) -> tuple[Path, ...]:
    paths = os.environ["AMENT_PREFIX_PATH"].split(os.pathsep)
    return tuple(Path(path) for path in paths if path and Path(path) != venv)


def _check_can_import_rclpy(python: str, distro: str) -> None:
    """Make sure that this is the Python of the sourced ROS, or start anew with the system's."""
    if imports_rclpy(python):
        return
    if python != os.path.realpath(SYSTEM_PYTHON) and imports_rclpy(SYSTEM_PYTHON):
        os.execv(SYSTEM_PYTHON, [SYSTEM_PYTHON, "-B", *sys.argv])
    raise SetupError(
        f"ROS 2 {distro} is sourced, but {python} cannot import its rclpy: run make with the "
        "Python that ROS was built for (make PYTHON=...), or from a shell without ROS"
    )


def imports_rclpy(python: str) -> bool:
    """Tell whether a Python finds rclpy."""
    command = [python, "-c", "import rclpy"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def check_wheels_exist() -> None:
    """Refuse a machine that ROS has no wheels for."""
    system, machine, version = platform.system(), platform.machine(), sys.version_info[:2]
    if (system, machine) != ("Linux", "x86_64"):
        raise SetupError(
            f"there are no ROS 2 wheels for {system} on {machine}: install ROS 2 Humble or Jazzy "
            "and source its setup.bash first"
        )
    if version > NEWEST_WITH_WHEELS or platform.python_implementation() != "CPython":
        raise SetupError(
            f"there are no ROS 2 wheels for {platform.python_implementation()} "
            f"{version[0]}.{version[1]}: run make PYTHON=python3.13 (CPython 3.10 to 3.13), or "
            "source a ROS 2 first"
        )


def _check_venv_module() -> None:
    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        raise SetupError(
            "Python's venv module is missing: install python3-venv (Debian, Ubuntu: apt install "
            f"python{sys.version_info[0]}.{sys.version_info[1]}-venv)"
        )
