"""Child processes of the demo: started in their own session, logged, and always ended."""

from __future__ import annotations

import ctypes
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from aopsam_ros.errors import AopsamError

# Seconds that the node may take to show its services, and to load a model.
APPEARANCE_TIMEOUT_S = 30.0
CONFIGURE_TIMEOUT_S = 180.0

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_STEPS = ((signal.SIGINT, 5.0), (signal.SIGTERM, 3.0), (signal.SIGKILL, 3.0))


class DemoError(AopsamError):
    """The demo could not be carried out."""


class Child:
    """A Python module run as a process; its output goes to a log file, line by line to a listener.

    It runs in a session of its own: Ctrl-C in the terminal reaches the demo alone, which then ends
    the child in order. Should the demo be killed outright, the kernel ends the child (Linux).
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        self.log = log
        self._file: IO[str] = log.open("w", encoding="utf-8", errors="replace")
        self._process = subprocess.Popen(
            [sys.executable, "-u", "-m", module, *arguments],
            env={**environment, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if on_line else self._file,
            stderr=self._file,
            text=True,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        self._reader = threading.Thread(target=self._read, args=(on_line,), daemon=True)
        self._reader.start()

    def _read(self, on_line: Callable[[str], None] | None) -> None:
        if on_line is None or self._process.stdout is None:
            return
        for line in self._process.stdout:
            on_line(line.rstrip("\n"))

    @property
    def returncode(self) -> int | None:
        """Exit code, or None while it runs."""
        return self._process.poll()

    def failure(self, what: str) -> DemoError:
        """Return the error that `what` happened, with the process's own last words, in one line."""
        return DemoError(f"{what}: {self._last_words()} (its log: {self.log})")

    def _last_words(self) -> str:
        """Return the last error in the log without its stamp, or else the last line."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        errors = [line for line in lines if re.match(r"\[(ERROR|FATAL)\]", line)]
        words = (errors or lines or ["it said nothing"])[-1]
        return re.sub(r"^(\[[^\]]*\] ?)+: ", "", words)

    def wait(self, timeout: float) -> bool:
        """Wait for the end of the process and of its output; False when it still runs."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        self._reader.join(timeout)
        return True

    def stop(self) -> None:
        """End the process: politely, then firmly, then for certain."""
        for sign, patience in _STEPS:
            if self._process.poll() is not None:
                break
            self._process.send_signal(sign)
            self.wait(patience)
        self._reader.join(1.0)
        self._file.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def _die_with_parent() -> None:
    """Ask the kernel to end this process when the one that started it dies.

    Runs between fork and exec, so it does nothing but one system call: start children before any
    threads of DDS are running.
    """
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
