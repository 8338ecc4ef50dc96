"""The setup script: what it says when something is missing, and what it believes to be finished."""

import os
import platform
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from provision import build, environment, headers, machine, main, requirements, stamp
from provision.console import SetupError, run_step
from provision.machine import Machine

WHEELS = Machine("/usr/bin/python3", "3.11", "", ())


def sourced(*prefixes):
    return Machine("/usr/bin/python3", "3.11", "jazzy", prefixes)


@pytest.fixture
def no_ros(monkeypatch):
    monkeypatch.delenv("ROS_DISTRO", raising=False)


def one_line(error):
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("version", [(2, 7), (3, 9)])
def test_old_python_is_told(root, version):
    code = (
        "import runpy, sys\n"
        f"sys.version_info = {(*version, 1)}\n"
        f"runpy.run_path({str(root / 'scripts/setup_env.py')!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert f"Python {version[0]}.{version[1]} is too old" in done.stderr


def test_entry_script_parses_on_python_2(root):
    text = (root / "scripts" / "setup_env.py").read_text(encoding="utf-8")
    before_check = text.split("from provision")[0]
    assert before_check.isascii()
    assert 'f"' not in before_check
    assert "annotations" not in before_check


@pytest.mark.parametrize("safe_path", ["", "1"])
def test_it_starts_from_any_folder_and_in_safe_mode(root, tmp_path, safe_path):
    done = subprocess.run(
        [sys.executable, str(root / "scripts" / "setup_env.py"), "--help"],
        cwd=tmp_path,
        env={"PYTHONSAFEPATH": safe_path, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "--rebuild" in done.stdout, done.stderr


def test_missing_compiler_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(SetupError) as error:
        machine.check_build_tools()
    assert "install g++" in one_line(error)


def test_missing_venv_module_is_told(monkeypatch, no_ros):
    monkeypatch.setattr(machine, "_check_wheels_exist", lambda: None)
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SetupError) as error:
        machine.inspect_machine(Path("venv"))
    assert "install python3-venv" in one_line(error)


def test_machine_without_wheels_is_told(monkeypatch, no_ros):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(SetupError) as error:
        machine.inspect_machine(Path("venv"))
    assert "source its setup.bash" in one_line(error)


def test_sourced_ros_of_another_python_is_told(monkeypatch):
    monkeypatch.setenv("ROS_DISTRO", "humble")
    monkeypatch.setenv("AMENT_PREFIX_PATH", "/opt/ros/humble")
    monkeypatch.setattr(machine, "_imports_rclpy", lambda python: False)
    with pytest.raises(SetupError) as error:
        machine.inspect_machine(Path("venv"))
    assert "cannot import its rclpy" in one_line(error)


def test_missing_headers_are_told(monkeypatch, tmp_path):
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"include": str(tmp_path / "include")})
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError) as error:
        headers.ensure(tmp_path)
    assert "-dev" in one_line(error)


def test_failed_step_is_one_line_and_keeps_the_log(tmp_path, capfd):
    command = [sys.executable, "-c", "print('what went wrong'); raise SystemExit(3)"]
    with pytest.raises(SetupError) as error:
        run_step("try", command, tmp_path / "a" / "try.log", os.environ)
    assert str(tmp_path / "a" / "try.log") in one_line(error)
    assert (tmp_path / "a" / "try.log").read_text() == "what went wrong\n"
    assert "what went wrong" in capfd.readouterr().err


def test_groups_without_a_sourced_ros_have_the_wheels():
    assert requirements.wanted_groups(WHEELS, {"dev"}) == [
        "runtime",
        "colcon",
        "ros",
        "build",
        "dev",
    ]
    assert requirements.wanted_groups(sourced(), {"dev"}) == ["runtime", "colcon", "dev"]
    with pytest.raises(SetupError, match="unknown EXTRAS gpu: there are bench dev"):
        requirements.wanted_groups(WHEELS, {"gpu"})


def test_only_packages_that_the_system_lacks_are_missing():
    packages = ["numpy", "opencv-python-headless", "pyyaml", "no-such-package"]
    assert requirements.missing_packages(sys.executable, packages) == ["no-such-package"]


def test_system_vision_msgs_is_used(root, tmp_path):
    assert list(build.package_keys(root, sourced(tmp_path))) == ["vision_msgs", "aopsam_ros"]
    (tmp_path / "share" / "vision_msgs").mkdir(parents=True)
    (tmp_path / "share" / "vision_msgs" / "package.xml").touch()
    assert list(build.package_keys(root, sourced(tmp_path))) == ["aopsam_ros"]


def test_wheels_name_this_python_after_the_repair(tmp_path):
    file = tmp_path / "share" / "std_msgs" / "cmake" / "export.cmake"
    file.parent.mkdir(parents=True)
    file.write_text(
        "set(x /opt/python/cp310-cp310/include/python3.10;"
        "/opt/python/cp310-cp310/lib/python3.10/site-packages/numpy/_core/include)"
    )
    environment.repair_exported_paths(tmp_path)
    site = tmp_path / "lib" / headers.VERSION / "site-packages"
    assert file.read_text() == (
        f"set(x {headers.include_folder(tmp_path)};{site}/numpy/_core/include)"
    )


@pytest.mark.parametrize(
    ("path", "changes"),
    [
        ("msg/Mask.msg", True),
        ("srv/Segment.srv", True),
        ("CMakeLists.txt", True),
        ("aopsam_ros/cli.py", False),  # installed as a link
        ("aopsam_ros/new.py", True),
        ("aopsam_ros/__pycache__/cli.pyc", False),
        ("README.md", False),
    ],
)
def test_what_needs_a_build(tmp_path, path, changes):
    for name in ("msg/Mask.msg", "CMakeLists.txt", "package.xml", "aopsam_ros/cli.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("old")
    before = build.package_keys(tmp_path, WHEELS)["aopsam_ros"]
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_text("new")
    assert (build.package_keys(tmp_path, WHEELS)["aopsam_ros"] != before) is changes


def test_unreadable_stamp_means_nothing_is_finished(tmp_path):
    stamp.Stamp("machine", {"dev": "1"}, {"aopsam_ros": "2"}).save(tmp_path)
    assert stamp.Stamp.load(tmp_path) == stamp.Stamp("machine", {"dev": "1"}, {"aopsam_ros": "2"})
    (tmp_path / stamp.FOLDER / "stamp.json").write_text('{"machine": "mach')
    assert stamp.Stamp.load(tmp_path) == stamp.Stamp()


@pytest.fixture
def steps(monkeypatch):
    """The steps of an update, written down instead of done."""
    done = []
    monkeypatch.setattr(main, "inspect_machine", lambda venv: WHEELS)
    monkeypatch.setattr(main, "check_build_tools", lambda: None)
    monkeypatch.setattr(headers, "ensure", lambda venv: None)
    monkeypatch.setattr(environment, "create", lambda venv, machine: done.append("create"))
    monkeypatch.setattr(
        environment, "install", lambda venv, machine, folder, groups: done.append(tuple(groups))
    )
    monkeypatch.setattr(
        build, "build", lambda root, venv, machine, packages: done.append(tuple(packages))
    )
    return done


ALL_GROUPS = ("runtime", "colcon", "ros", "build")
PACKAGES = ("vision_msgs", "aopsam_ros")


def test_second_run_does_nothing(root, tmp_path, steps):
    main.update(root, tmp_path, set(), rebuild=False)
    assert steps == ["create", ALL_GROUPS, PACKAGES]
    main.update(root, tmp_path, set(), rebuild=False)
    assert steps == ["create", ALL_GROUPS, PACKAGES]


def test_an_extra_is_added_to_what_is_there(root, tmp_path, steps):
    main.update(root, tmp_path, set(), rebuild=False)
    main.update(root, tmp_path, {"dev"}, rebuild=False)
    main.update(root, tmp_path, set(), rebuild=False)
    assert steps[3:] == [("dev",)]


def test_rebuild_builds_everything(root, tmp_path, steps):
    main.update(root, tmp_path, set(), rebuild=False)
    main.update(root, tmp_path, set(), rebuild=True)
    assert steps[3:] == [PACKAGES]


def test_an_interrupted_installation_is_not_believed(root, tmp_path, steps, monkeypatch):
    main.update(root, tmp_path, set(), rebuild=False)

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(environment, "install", interrupted)
        with pytest.raises(KeyboardInterrupt):
            main.update(root, tmp_path, {"dev"}, rebuild=False)
    main.update(root, tmp_path, {"dev"}, rebuild=False)
    assert steps[3:] == ["create", (*ALL_GROUPS, "dev"), PACKAGES]


def test_a_failed_build_is_tried_again(root, tmp_path, steps, monkeypatch):
    def failing(*_):
        raise SetupError("no")

    with monkeypatch.context() as patch:
        patch.setattr(build, "build", failing)
        with pytest.raises(SetupError):
            main.update(root, tmp_path, set(), rebuild=False)
    main.update(root, tmp_path, set(), rebuild=False)
    assert steps == ["create", ALL_GROUPS, PACKAGES]


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "precious").touch()
    with pytest.raises(SetupError) as error:
        environment.create(tmp_path, WHEELS)
    assert "move it away" in one_line(error)
    assert (tmp_path / "precious").exists()
