"""Ctrl-C and SIGTERM end the demo in order, with its children, whenever they come."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator

Check = Callable[[], None]


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
