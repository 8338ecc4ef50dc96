"""What a person sees while the environment is made: one line a step, and the log when it fails."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

TAIL_LINES = 25


class SetupError(Exception):
    """Something is missing or failed; the message is one line that says what to do."""


def run_step(
    title: str, command: Sequence[str], log: Path, env: Mapping[str, str], cwd: Path | None = None
) -> None:
    """Run a command, showing one line of progress; its whole output goes to a log file.

    Raises:
        SetupError: if it exits with another status than 0; the end of the log is printed first.
    """
    start = time.monotonic()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as sink:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            env=dict(env),
            cwd=cwd,
        )
        assert process.stdout is not None
        _say(f"{title} ...", live=True)
        for line in process.stdout:
            sink.write(line)
            _say(f"{title}: {line.strip()}  ({time.monotonic() - start:.0f} s)", live=True)
        status = process.wait()
    _say(f"{title}: {'done' if status == 0 else 'FAILED'} ({time.monotonic() - start:.0f} s)")
    if status != 0:
        _print_tail(log)
        raise SetupError(f"{title} failed; the whole output is in {log}")


def _say(text: str, live: bool = False) -> None:
    """Print a line; a live one is overwritten by the next and shown on terminals only."""
    if not sys.stdout.isatty():
        if not live:
            print(text, flush=True)
        return
    width = shutil.get_terminal_size().columns - 1
    end = "" if live else "\n"
    print(f"\r\x1b[K{text[:width]}", end=end, flush=True)


def _print_tail(log: Path) -> None:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    print("\n".join(f"    {line}" for line in lines[-TAIL_LINES:]), file=sys.stderr)
