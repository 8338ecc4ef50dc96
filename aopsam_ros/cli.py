"""The `aopsam` command."""

import argparse
import importlib
import io
import keyword
import logging
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from aopsam_ros.commands import COMMANDS
from aopsam_ros.errors import AopsamError, first_line

FAILED = 2
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run `aopsam` with these arguments, or the process's own; return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # else a file's name that is no text ends the run
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        arguments = build_parser(words).parse_args(words)
        logging.basicConfig(
            level=logging.INFO if arguments.verbose else logging.WARNING,
            format="aopsam: %(message)s",
        )
        return int(_module(arguments.command).run(arguments) or 0)
    except BrokenPipeError:
        # The reader of our output has left, as `head` does. Nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (AopsamError, OSError, ImportError) as error:
        print(f"aopsam: error: {first_line(error)}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("aopsam: interrupted", file=sys.stderr)
        return INTERRUPTED


def build_parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser; only the subcommand named in `words` is imported for its arguments."""
    parser = argparse.ArgumentParser(
        prog="aopsam", description="Prompt-free segmentation of images."
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="say what is chosen and why")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    chosen = next((word for word in words if not word.startswith("-")), None)
    for name, text in COMMANDS.items():
        subparser = commands.add_parser(name, help=text, description=text)
        if name == chosen:
            _module(name).add_arguments(subparser)
    return parser


def _module(command: str) -> ModuleType:
    name = command.replace("-", "_") + "_" * keyword.iskeyword(command)
    return importlib.import_module(f"aopsam_ros.commands.{name}")


if __name__ == "__main__":
    sys.exit(main())
