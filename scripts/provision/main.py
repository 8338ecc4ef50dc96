"""The steps of `make setup`; the Makefile decides which of them have to run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from provision import build, environment
from provision.machine import SetupError, inspect_machine

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Run one step; an error is one line and exit status 2."""
    parser = argparse.ArgumentParser(description="A step of `make setup`.")
    parser.add_argument("step", choices=["create", "install", "build"])
    parser.add_argument("names", nargs="*", help="groups of requirements/, or a package to build")
    arguments = parser.parse_args()
    venv = ROOT / ".venv"
    try:
        machine = inspect_machine(venv)
        if arguments.step == "create":
            environment.create(venv, machine)
        elif arguments.step == "install":
            environment.install(venv, machine, ROOT / "requirements", arguments.names)
        else:
            build.build(ROOT, venv, machine, *arguments.names)
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nsetup: interrupted; the next run starts where it has to", file=sys.stderr)
        return 130
    return 0
