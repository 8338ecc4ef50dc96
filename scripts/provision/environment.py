"""The virtual environment: made, filled with packages, repaired, and given an activation script."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from provision import headers
from provision.machine import Machine, SetupError, check_build_tools, python_of, run

STAMPS = ".stamp"  # inside the environment: make's, and what marks it as made by us
WHEELS_ONLY = ("ros", "build")  # groups that a sourced ROS takes the place of
# Where the module is not called as the package is.
MODULES = {
    "opencv-python-headless": "cv2",
    "scikit-image": "skimage",
    "scikit-learn": "sklearn",
    "pyyaml": "yaml",
    "types-pyyaml": "yaml-stubs",
    "types-tqdm": "tqdm-stubs",
}


def create(venv: Path, machine: Machine) -> None:
    """Make an empty environment, unless there is a whole one for this machine.

    Raises:
        SetupError: if the folder holds something that this script did not make.
    """
    made_for, installing = venv / STAMPS / "machine", venv / STAMPS / "installing"
    key = f"{machine.key}{venv}\n"  # an environment cannot be moved
    if made_for.is_file() and made_for.read_text() == key and not installing.exists():
        return
    ours = any((venv / name).is_dir() for name in (STAMPS, ".aopsam"))  # the latter until 0.1
    if venv.exists() and any(venv.iterdir()) and not ours:
        raise SetupError(f"{venv} was not made by make setup: move it away first")
    check_build_tools()
    print("setup: create the Python environment", flush=True)
    # The machine's stamp goes first and comes last, the folder of stamps goes last: what an
    # interruption leaves is ours, and not taken for whole.
    made_for.unlink(missing_ok=True)
    for entry in venv.iterdir() if venv.exists() else ():
        if entry.name != STAMPS:
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    shutil.rmtree(venv / STAMPS, ignore_errors=True)
    (venv / STAMPS).mkdir(parents=True)
    system = ["--system-site-packages"] if machine.has_system_ros else []
    run([machine.python, "-m", "venv", *system, str(venv)], dict(os.environ))
    _extend_activation(venv, machine)
    headers.ensure(venv)
    made_for.write_text(key)


def install(venv: Path, machine: Machine, folder: Path, groups: Sequence[str], ros: str) -> None:
    """Install groups of requirements; with a sourced ROS only what it lacks, else `ros`'s."""
    if machine.has_system_ros:
        files = [folder / f"{group}.txt" for group in groups if group not in WHEELS_ONLY]
        arguments = missing_packages(venv, [name for file in files for name in _names(file)])
        if not arguments:
            return
        arguments += _compatible_numpy(venv)
    else:
        arguments = [
            "-c",
            str(folder / "constraints.txt"),
            "-c",
            str(folder / ros / "constraints.txt"),
        ]
        for group in groups:
            owner = folder / ros if group in WHEELS_ONLY else folder
            arguments += ["-r", str(owner / f"{group}.txt")]
    print(f"setup: install packages ({', '.join(groups)})", flush=True)
    # pip takes packages that it was killed in the middle of for whole: `create` starts anew then.
    installing = venv / STAMPS / "installing"
    installing.touch()
    pip = [python_of(venv), "-m", "pip", "--disable-pip-version-check", "install"]
    try:
        run([*pip, "--no-input", "-qq", *arguments], machine.environment(venv))
    except SetupError:
        installing.unlink()  # pip itself gave up, in order
        raise
    if not machine.has_system_ros:
        repair_exported_paths(venv)
    installing.unlink()


def missing_packages(venv: Path, packages: Sequence[str]) -> list[str]:
    """Return those packages whose module the environment's Python cannot find.

    A sourced ROS brings numpy, OpenCV and the rest as system packages that its own modules were
    compiled against; replacing them in the environment would break those.
    """
    modules = {name: MODULES.get(name.lower(), name.replace("-", "_")) for name in packages}
    code = (
        "import importlib.util, shutil, sys\n"
        "for m in sys.argv[1:]:\n"
        "    print(int(bool(importlib.util.find_spec(m) or shutil.which(m))))"
    )
    command = [python_of(venv), "-c", code, *modules.values()]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return [name for name, found in zip(modules, answer, strict=True) if found == "0"]


def repair_exported_paths(venv: Path) -> None:
    """Point the wheels' CMake files at this Python; they name the one they were built with."""
    packages = str(venv / "lib" / headers.VERSION / "site-packages")
    built = r"/opt/python/cp\d+-cp\d+"
    for file in (venv / "share").rglob("*.cmake"):
        text = file.read_text(encoding="utf-8")
        new = re.sub(built + r"/include/python3\.\d+", str(headers.include_folder(venv)), text)
        new = re.sub(built + r"/lib/python3\.\d+/site-packages", packages, new)
        if new != text:
            file.write_text(new, encoding="utf-8")


def _names(file: Path) -> list[str]:
    """Return the package names in a requirements file, each once, in order."""
    found = re.findall(r"^([A-Za-z0-9][A-Za-z0-9._-]*)", file.read_text(encoding="utf-8"), re.M)
    return list(dict.fromkeys(found))


def _compatible_numpy(venv: Path) -> list[str]:
    """Keep to numpy 1 where the sourced ROS was compiled against it."""
    command = [python_of(venv), "-c", "import numpy; print(numpy.__version__)"]
    version = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return ["numpy<2"] if version.startswith("1.") else []


def _extend_activation(venv: Path, machine: Machine) -> None:
    """Make activating the environment all that a user has to do to have ROS and this package."""
    lines = ["", "# --- added for ROS 2 by make setup ---"]
    for name, folder in (
        ("AMENT_PREFIX_PATH", ""),
        ("CMAKE_PREFIX_PATH", ""),
        ("LD_LIBRARY_PATH", "/lib"),
    ):
        lines.append(f'export {name}="$VIRTUAL_ENV{folder}${{{name}:+:${name}}}"')
    if not machine.has_system_ros:
        lines.append('export RMW_IMPLEMENTATION="${RMW_IMPLEMENTATION:-rmw_fastrtps_cpp}"')
    with (venv / "bin" / "activate").open("a", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
