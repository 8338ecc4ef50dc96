"""Turns: work that is done side by side comes out in the order in which it began."""

from __future__ import annotations

import threading


class Turns:
    """Gives out turns, first come, first served."""

    def __init__(self) -> None:
        """Begin with the first turn."""
        self._changed = threading.Condition()
        self._begun = 0
        self._first = 0  # of those that have not ended
        self._ended: set[int] = set()  # after the first

    def begin(self) -> Turn:
        """Return the next turn, which must be ended."""
        with self._changed:
            self._begun += 1
            return Turn(self, self._begun - 1)

    def wait(self, number: int) -> None:
        """Wait until all turns before this one have ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._first >= number)

    def end(self, number: int) -> None:
        """End a turn, whether it waited or not."""
        with self._changed:
            self._ended.add(number)
            while self._first in self._ended:
                self._ended.remove(self._first)
                self._first += 1
            self._changed.notify_all()


class Turn:
    """A turn of `Turns`; leaving its `with` block ends it."""

    def __init__(self, turns: Turns, number: int) -> None:
        """Belong to `turns`, the `number`-th of them."""
        self._turns = turns
        self._number = number

    def wait(self) -> None:
        """Wait until all turns before this one have ended; harmless when repeated."""
        self._turns.wait(self._number)

    def __enter__(self) -> Turn:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the turn."""
        self._turns.end(self._number)
