"""Warnings that come once in a while for each kind of fault, however many kinds take turns."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable

MOST_KINDS = 64  # that are remembered; beyond, the one told longest ago is forgotten

# What differs between two faults of one kind: what is quoted from the input, and numbers.
_VARIES = re.compile(r"'[^']*'|\"[^\"]*\"|[-+]?\d[\w.+-]*|[-+]?\b(nan|inf)\b")


def kind_of(message: str) -> str:
    """Return what a message has in common with others of its kind.

    Of a traceback that is the last line: what was raised.
    """
    lines = message.strip().splitlines() or [""]
    return _VARIES.sub("#", lines[-1])


class Throttle:
    """Lets the first message of a kind pass, and the next one after a while. For any thread.

    rclpy throttles by the line of code that logs: one kind would keep all others of it back.
    """

    def __init__(self, period_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Let one message of a kind pass in `period_s` seconds of `clock`."""
        self._period_s = period_s
        self._clock = clock
        self._told: dict[str, float] = {}
        self._lock = threading.Lock()

    def passes(self, message: str) -> bool:
        """Tell whether a message may be told now; if so, it counts as told."""
        kind, now = kind_of(message), self._clock()
        with self._lock:
            if now - self._told.get(kind, float("-inf")) < self._period_s:
                return False
            self._told.pop(kind, None)  # to the end: the newest
            self._told[kind] = now
            if len(self._told) > MOST_KINDS:
                del self._told[next(iter(self._told))]
            return True
