"""A child process: in a ROS domain of its own, logged, ended by signals, and always ended."""

from __future__ import annotations

import contextlib
import ctypes
import random
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from aopsam_ros.errors import AopsamError

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_SIGNALS = ((signal.SIGINT, 5.0), (signal.SIGTERM, 3.0), (signal.SIGKILL, 3.0))
LAST_DOMAIN = 101  # above, ports are among those that Linux hands out to programs (ROS 2's docs)

# DDSI-RTPS's default ports: where participants of a domain on a machine listen.
_BASE, _PER_DOMAIN, _FIRST = 7400, 250, 10
_PARTICIPANTS = 10  # whose ports are looked at, two each: the first one may have left

Check = Callable[[], None]


class DemoError(AopsamError):
    """The demo could not be carried out."""


class Child:
    """A Python program run as a process whose output goes to a log file.

    Its session is its own: Ctrl-C in the terminal reaches the demo alone, which then ends the child
    in order. Should the demo be killed outright, the kernel ends the child (Linux).
    """

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        """Start Python with arguments: a program's file or `-m` and a module, and its own."""
        self.log = log
        with log.open("w", encoding="utf-8") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-u", *arguments],
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
        """Return the error that `what` happened, with the log's last error or line, in one line."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        errors = [line for line in lines if re.match(r"\[(ERROR|FATAL)\]", line)]
        last = (errors or lines or ["no output"])[-1]
        said = re.sub(r"^(\[[^\]]*\] ?)+: ", "", last)  # without its stamp
        return DemoError(f"{what}: {said} (its log: {self.log})")

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


@contextlib.contextmanager
def interrupts() -> Iterator[Check]:
    """Note both signals; yield a function that raises KeyboardInterrupt once one has come.

    The handlers themselves raise nothing: an exception in the middle of rclpy's work, or while
    Python destroys an object, is lost. Whoever waits calls the function in its loop.
    """
    received: list[int] = []

    def check() -> None:
        if received:
            raise KeyboardInterrupt

    def note(number: int, _frame: object) -> None:
        received.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def unused_domain() -> int:
    """Return a domain, at random, in which nothing runs on this machine, as far as one can tell."""
    domains = random.SystemRandom().sample(range(1, LAST_DOMAIN + 1), LAST_DOMAIN)
    return next(filter(is_unused, domains), domains[0])


def is_unused(domain: int) -> bool:
    """Return whether no participant of the domain has its ports on this machine."""
    first = _BASE + _PER_DOMAIN * domain + _FIRST
    return all(_can_be_bound(first + offset) for offset in range(2 * _PARTICIPANTS))


def _can_be_bound(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
