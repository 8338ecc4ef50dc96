"""What an install puts where: modules, bundles, files for ros2 launch, executables."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import aopsam_ros

SITE = next(Path(p) for p in reversed(list(aopsam_ros.__path__)))


def relative_files(folder, pattern):
    return {
        str(f.relative_to(folder)) for f in folder.rglob(pattern) if "__pycache__" not in f.parts
    }


def share():
    from ament_index_python.packages import get_package_share_directory

    return Path(get_package_share_directory("aopsam_ros"))


def python(code, *words, **settings):
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, **settings)


def test_tests_run_on_the_installed_package_which_is_typed(root):
    assert root / "aopsam_ros" != SITE
    assert (SITE / "__init__.py").is_file() and (SITE / "py.typed").is_file()


def test_every_module_is_installed(root):
    sources = relative_files(root / "aopsam_ros", "*.py")
    installed = {f for f in relative_files(SITE, "*.py") if not f.startswith(("msg/", "srv/"))}
    assert installed == sources
    assert "segmentation/segmenter.py" in sources


def test_the_benchmarks_are_installed_beside_it_and_every_bundle_whole(root):
    sources = relative_files(root / "benchmarks" / "aopsam_benchmarks", "*.py")
    assert "run.py" in sources
    assert relative_files(SITE.parent / "aopsam_benchmarks", "*.py") == sources
    sources = relative_files(root / "bundles", "*")
    assert "nano/bundle.yaml" in sources
    assert sources <= relative_files(SITE / "bundles", "*")


@pytest.mark.parametrize("folder", ["launch", "config", "rviz", "photographs"])
@pytest.mark.needs("rclpy")
def test_files_for_launching_are_installed(root, folder):
    sources = relative_files(root / folder, "*")
    assert sources
    assert relative_files(share() / folder, "*") == sources


@pytest.mark.parametrize("name", ["aopsam_node", "aopsam"])
@pytest.mark.needs("rclpy")
def test_ros2_run_finds_the_executables(name):
    file = share().parents[1] / "lib" / "aopsam_ros" / name
    interpreter = re.search(r'exec\' "(.+?)"', file.read_text())[1]
    assert os.access(file, os.X_OK) and os.access(interpreter, os.X_OK)


@pytest.mark.parametrize("path", ["lib/aopsam_ros/aopsam", "bin/aopsam"])
@pytest.mark.needs("rclpy")
def test_the_command_runs_without_activation(path, tmp_path):
    env = {"PATH": os.defpath, "HOME": str(tmp_path)}
    if "PYTHONPATH" in os.environ:  # a sourced ROS is there, with or without the environment
        env |= {name: os.environ[name] for name in ("PYTHONPATH", "LD_LIBRARY_PATH")}
    command = [share().parents[1] / path, "--help"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "segment" in done.stdout


@pytest.mark.parametrize("path", ["lib/aopsam_ros/aopsam_node", "bin/aopsam"])
@pytest.mark.needs("rclpy")
def test_processes_that_a_command_starts_do_not_run_it_again(path):
    """A spawned process first reads its parent's main file, under this name."""
    file = str(share().parents[1] / path)
    code = f"import runpy; runpy.run_path({file!r}, run_name='__mp_main__')"
    done = python(code, "--help", timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.needs("rclpy")
def test_sources_and_messages_are_one_package_in_the_repository(root):
    """A program started in the repository finds the source folder first, and the messages too."""
    code = "import aopsam_ros as a; from aopsam_ros.msg import Mask; print(a.__file__, Mask().area)"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    done = python(code, cwd=root, env=env)
    assert done.stdout.split() == [str(root / "aopsam_ros" / "__init__.py"), "0"], done.stderr


def test_core_imports_no_ros_no_torch_and_nothing_large_for_what_is_switched_off():
    code = (
        "import sys, aopsam_ros.streaming.stream_segmenter, aopsam_ros.cli\n"
        "print(sorted({'rclpy', 'torch', 'tensorrt', 'launch', 'scipy'} & set(sys.modules)))"
    )
    done = python(code)
    assert done.stdout.strip() == "[]", done.stderr
