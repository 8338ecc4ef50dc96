"""`make setup`: which steps it takes, and what it says when something is missing."""

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from unittest.mock import Mock

import pytest

from provision import environment, headers, machine, main
from provision.machine import Machine, SetupError

WHEELS = Machine("/usr/bin/python3", "3.11", "", ())

# In place of scripts/setup_env.py: notes the steps, and fails where a test says so.
STEPS = """
import pathlib, sys
step = " ".join(sys.argv[1:]).replace("--ros=kilted ", "")
stamps = pathlib.Path(".venv-kilted/.stamp" if "--ros=kilted" in sys.argv else ".venv/.stamp")
if step == "create" and (stamps / "machine").exists():
    sys.exit(0)
with open("steps", "a") as file:
    print(step, file=file)
if pathlib.Path("fail").exists() and step == pathlib.Path("fail").read_text():
    sys.exit(2)
if step == "create":
    stamps.mkdir(parents=True)
    (stamps / "machine").touch()
"""
BASE = ["create", "install runtime colcon ros build", "build vision_msgs"]
PACKAGE = ["build aopsam_ros"]
GIVEN = ("EXTRAS", "PYTHON", "ARGS", "ROS")  # make passes what it was given on, to tests as well


def finished(command, **settings):
    return subprocess.run(command, capture_output=True, text=True, check=False, **settings)


@pytest.fixture
def setup(root, tmp_path):
    """Run `make setup` in a small copy of the repository; returns the steps that it took."""
    for name in ("aopsam_ros/cli.py", "msg/Mask.msg", "srv/Segment.srv", "CMakeLists.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for name in ("scripts", "benchmarks", "bundles", "launch", "config", "rviz", "photographs"):
        (tmp_path / name).mkdir()
    (tmp_path / "scripts" / "setup_env.py").write_text(STEPS)
    for name in ("requirements", "interfaces", "Makefile", "package.xml"):
        copy = shutil.copytree if (root / name).is_dir() else shutil.copy
        copy(root / name, tmp_path / name)

    def run(*words, target="setup", code=0):
        (tmp_path / "steps").write_text("")
        env = {n: v for n, v in os.environ.items() if not n.startswith("MAKE") and n not in GIVEN}
        command = ["make", target, f"PYTHON={sys.executable}", *words]
        done = finished(command, cwd=tmp_path, env=env)
        assert done.returncode == code, done.stderr
        return (tmp_path / "steps").read_text().splitlines() if code == 0 else done.stderr

    return run


def later(folder, path):
    """Change the time of a file, as an edit would: to after all that has been made so far."""
    path = folder / path
    path.parent.mkdir(exist_ok=True)
    path.touch()
    newest = max(file.lstat().st_mtime for file in folder.rglob("*")) + 1
    os.utime(path, (newest, newest))


def test_a_second_setup_does_nothing_but_add_an_extra(setup):
    assert setup() == [*BASE, *PACKAGE]
    assert setup() == []
    assert setup("EXTRAS=dev") == ["install dev"]
    assert setup("EXTRAS=dev bench") == ["install bench"]
    assert setup() == []


def test_each_ros_has_an_environment_of_its_own(setup):
    assert setup("ROS=kilted") == setup() == [*BASE, *PACKAGE]
    assert setup("ROS=kilted") == setup() == []


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("ROS=foxy", "unknown ROS foxy: there are jazzy kilted"),
        ("EXTRAS=gpu dev", "unknown EXTRAS gpu: there are bench dev"),
        ("PYTHON=no_python", "no_python not found: install Python"),
    ],
)
def test_what_is_not_there_is_named(setup, word, reason):
    assert reason in setup(word, code=2)


@pytest.mark.parametrize("step", [*BASE, "install dev", *PACKAGE])
def test_a_step_that_failed_is_taken_again(setup, tmp_path, step):
    (tmp_path / "fail").write_text(step)
    setup("EXTRAS=dev", code=2)
    done = (tmp_path / "steps").read_text().splitlines()
    (tmp_path / "fail").unlink()
    everything = {*BASE, "install dev", *PACKAGE}
    assert set(setup("EXTRAS=dev")) == everything - set(done) | {step}


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        *((path, PACKAGE) for path in ("msg/Mask.msg", "srv/Segment.srv", "./CMakeLists.txt")),
        ("aopsam_ros/cli.py", []),  # installed as a link
        ("aopsam_ros/new.py", PACKAGE),
        ("aopsam_ros/__pycache__/cli.pyc", []),
        ("./README.md", []),
        ("requirements/dev.txt", ["install dev"]),
    ],
)
def test_what_a_change_needs(setup, tmp_path, path, steps):
    setup("EXTRAS=dev")
    later(tmp_path, path)
    assert setup("EXTRAS=dev") == steps


@pytest.mark.parametrize("version", [(2, 7), (3, 9)])
def test_old_python_is_told(root, version):
    pretend = f"import runpy, sys; sys.version_info = {(*version, 1)}"
    code = f"{pretend}; runpy.run_path('scripts/setup_env.py')"
    done = finished([sys.executable, "-c", code], cwd=root)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"Python {version[0]}.{version[1]} is too old" in line


@pytest.mark.parametrize("safe_path", ["", "1"])
def test_it_starts_from_any_folder_and_in_safe_mode(root, tmp_path, safe_path):
    env = {"PYTHONSAFEPATH": safe_path, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, root / "scripts" / "setup_env.py", "--help"]
    done = finished(command, cwd=tmp_path, env=env)
    assert "install" in done.stdout, done.stderr


def compiler(monkeypatch, folder):
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CXX", raising=False)
    machine.check_build_tools()


def venv_module(monkeypatch, folder):
    monkeypatch.setattr(machine, "check_wheels_exist", lambda: None)
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda name: None)
    machine.inspect_machine(folder)


def wheels(monkeypatch, folder):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    machine.inspect_machine(folder)


def rclpy_of_this_python(monkeypatch, folder):
    monkeypatch.setenv("ROS_DISTRO", "humble")
    monkeypatch.setenv("AMENT_PREFIX_PATH", "/opt/ros/humble")
    monkeypatch.setattr(machine, "imports_rclpy", lambda python: False)
    machine.inspect_machine(folder)


def python_headers(monkeypatch, folder):
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"include": str(folder / "include")})
    monkeypatch.setenv("PATH", str(folder))
    headers.ensure(folder)


def empty_folder(monkeypatch, folder):
    (folder / "precious").touch()
    environment.create(folder, WHEELS)


@pytest.mark.parametrize(
    ("missing", "advice"),
    [
        (compiler, "install g\\+\\+"),
        (venv_module, "install python3-venv"),
        (wheels, "source its setup.bash"),
        (rclpy_of_this_python, "cannot import its rclpy"),
        (python_headers, "-dev"),
        (empty_folder, "move it away"),
    ],
)
def test_what_is_missing_is_one_line_with_advice(monkeypatch, tmp_path, missing, advice):
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    with pytest.raises(SetupError, match=advice) as error:
        missing(monkeypatch, tmp_path)
    assert "\n" not in str(error.value)
    assert missing is not empty_folder or (tmp_path / "precious").exists()


@pytest.mark.parametrize(
    ("sourced", "code", "said"),
    [
        ("ws/install", 2, "setup: a workspace with aopsam_ros is sourced: take a shell with ROS "),
        (".venv", 0, ""),  # activated
    ],
)
def test_a_sourced_workspace_with_the_package_is_refused_but_not_the_own_environment(
    monkeypatch, tmp_path, capsys, sourced, code, said
):
    """Nothing would be built, as the package seems to be there."""
    package = tmp_path / sourced / "share" / "aopsam_ros" / "package.xml"
    package.parent.mkdir(parents=True)
    package.touch()
    prefixes = os.pathsep.join([str(tmp_path / sourced), str(tmp_path / "ros")])
    monkeypatch.setenv("AMENT_PREFIX_PATH", prefixes)
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    monkeypatch.setattr(machine, "imports_rclpy", lambda python: True)
    monkeypatch.setattr(environment, "create", lambda venv, used: None)
    monkeypatch.setattr(main, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["setup_env.py", "create"])
    assert main.main() == code
    err = capsys.readouterr().err
    assert err.startswith(said) and len(err.splitlines()) == bool(code)


@pytest.mark.parametrize(
    ("ending", "kind"), [("exit 3", SetupError), ("kill $$", KeyboardInterrupt)]
)
def test_a_tool_that_fails_is_told_from_one_that_was_interrupted(ending, kind):
    with pytest.raises(kind):
        machine.run(["sh", "-c", ending], os.environ)


def test_wheels_name_this_python_after_the_repair(tmp_path):
    file = tmp_path / "share" / "std_msgs" / "cmake" / "export.cmake"
    file.parent.mkdir(parents=True)
    built, numpy = "/opt/python/cp310-cp310", "site-packages/numpy/_core/include"
    file.write_text(f"set(x {built}/include/python3.10;{built}/lib/python3.10/{numpy})")
    environment.repair_exported_paths(tmp_path)
    include, library = headers.include_folder(tmp_path), tmp_path / "lib" / headers.VERSION
    assert file.read_text() == f"set(x {include};{library}/{numpy})"


@pytest.fixture
def create(monkeypatch, tmp_path):
    """Create an environment, without a real one; returns whether it was made anew."""
    venv = tmp_path / "venv"
    monkeypatch.setattr(environment, "check_build_tools", lambda: None)
    monkeypatch.setattr(headers, "ensure", lambda venv: None)
    monkeypatch.setattr(environment, "run", lambda *_: (venv / "bin").mkdir())

    def run(used=WHEELS):
        before = venv / "bin" / "installed"
        if before.parent.is_dir():
            before.touch()
        environment.create(venv, used)
        return not before.exists()

    return run


def test_an_environment_is_made_anew_for_another_machine_only(create):
    assert create() and not create()
    assert create(Machine("/usr/bin/python3", "3.12", "", ()))


@pytest.mark.parametrize(
    ("fault", "made_anew"), [(KeyboardInterrupt(), True), (SetupError("pip failed"), False)]
)
def test_only_an_interrupted_installation_is_not_believed(
    create, monkeypatch, tmp_path, fault, made_anew
):
    create()
    with monkeypatch.context() as patch:
        patch.setattr(environment, "run", Mock(side_effect=fault))
        with pytest.raises(type(fault)):
            environment.install(tmp_path / "venv", WHEELS, tmp_path, ["dev"], "jazzy")
    assert create() is made_anew
