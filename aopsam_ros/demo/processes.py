"""A child process: started in a session of its own, logged, and always ended."""

from __future__ import annotations

import ctypes
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from aopsam_ros.errors import AopsamError

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_SIGNALS = ((signal.SIGINT, 5.0), (signal.SIGTERM, 3.0), (signal.SIGKILL, 3.0))


class DemoError(AopsamError):
    """The demo could not be carried out."""


class Child:
    """A Python module run as a process whose output goes to a log file.

    Its session is its own: Ctrl-C in the terminal reaches the demo alone, which then ends the child
    in order. Should the demo be killed outright, the kernel ends the child (Linux).
    """

    def __init__(
        self, module: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> None:
        self.log = log
        with log.open("w", encoding="utf-8") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-u", "-m", module, *arguments],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    @property
    def returncode(self) -> int | None:
        """Exit code, or None while it runs."""
        return self._process.poll()

    def failure(self, what: str) -> DemoError:
        """Return the error that `what` happened, with the last error of the log, in one line."""
        return DemoError(f"{what}: {self._last_error()} (its log: {self.log})")

    def _last_error(self) -> str:
        """Return the last error in the log without its stamp, or else the last line."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        errors = [line for line in lines if re.match(r"\[(ERROR|FATAL)\]", line)]
        last = (errors or lines or ["no output"])[-1]
        return re.sub(r"^(\[[^\]]*\] ?)+: ", "", last)

    def stop(self) -> None:
        """End the process: by SIGINT, then SIGTERM, then SIGKILL."""
        for number, patience_s in _SIGNALS:
            if self.returncode is not None:
                return
            self._process.send_signal(number)
            try:
                self._process.wait(patience_s)
            except subprocess.TimeoutExpired:
                continue

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _die_with_parent() -> None:
    """Ask the kernel to end this process when the one that started it dies.

    Runs between fork and exec, so it does nothing but one system call: start children before any
    threads of DDS are running.
    """
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
