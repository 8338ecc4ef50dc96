"""Ctrl-C and SIGTERM end the demo in order, with its children, wherever they reach it."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator

Check = Callable[[], None]


@contextlib.contextmanager
def interrupts() -> Iterator[Check]:
    """Let both signals raise KeyboardInterrupt; yield what raises it once more.

    An exception that happens to be raised while Python destroys an object, as in the middle of
    rclpy's work, is printed and forgotten. So whoever waits in a loop asks again.
    """
    seen: list[int] = []

    def interrupt(number: int, _frame: object) -> None:
        seen.append(number)
        raise KeyboardInterrupt

    def check() -> None:
        if seen:
            raise KeyboardInterrupt

    before = {n: signal.signal(n, interrupt) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
