"""Brings the environment up to date: does what is not done yet, and nothing else."""

from __future__ import annotations

import argparse
import fcntl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from provision import build, environment, headers
from provision.console import SetupError
from provision.machine import Machine, check_build_tools, inspect_machine
from provision.requirements import group_key, wanted_groups
from provision.stamp import Stamp

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Run the command line; an error is one line and exit status 2."""
    arguments = _parser().parse_args()
    try:
        with _only_one():
            update(ROOT, ROOT / ".venv", set(arguments.extras), arguments.rebuild)
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nsetup: interrupted; the next run starts where it has to", file=sys.stderr)
        return 130
    return 0


def update(root: Path, venv: Path, extras: set[str], rebuild: bool) -> None:
    """Make whatever part of the environment is missing or out of date."""
    machine = inspect_machine(venv)
    groups = wanted_groups(machine, extras)
    state = Stamp.load(venv)
    if state.machine != machine.key:
        check_build_tools()
        environment.create(venv, machine)
        headers.ensure(venv)
        state = Stamp(machine=machine.key)
    _update_packages(root / "requirements", venv, machine, state, groups)
    _update_build(root, venv, machine, state, rebuild)


def _update_packages(
    folder: Path, venv: Path, machine: Machine, state: Stamp, groups: list[str]
) -> None:
    keys = {group: group_key(folder, group) for group in groups}
    outdated = {group: key for group, key in keys.items() if state.groups.get(group) != key}
    if not outdated:
        return
    Stamp().save(venv)  # a half-done installation is not to be trusted: start anew after it
    environment.install(venv, machine, folder, list(outdated))
    state.groups.update(outdated)
    state.save(venv)


def _update_build(root: Path, venv: Path, machine: Machine, state: Stamp, rebuild: bool) -> None:
    keys = build.package_keys(root, machine)
    outdated = {p: key for p, key in keys.items() if rebuild or state.packages.get(p) != key}
    if not outdated:
        return
    check_build_tools()
    for package in outdated:
        state.packages.pop(package, None)
    state.save(venv)
    build.build(root, venv, machine, list(outdated))
    state.packages.update(outdated)
    state.save(venv)


@contextmanager
def _only_one() -> Iterator[None]:
    """Let a second run wait for the first one instead of working on the same files."""
    with Path(__file__).open(encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another run of make setup", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Make or update .venv for aopsam_ros.")
    parser.add_argument(
        "--extras",
        nargs="*",
        default=[],
        help="further groups: bench, dev, evaluate, openvino, record, train",
    )
    parser.add_argument("--rebuild", action="store_true", help="build even if nothing changed")
    return parser
