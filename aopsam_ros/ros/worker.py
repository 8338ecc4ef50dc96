"""One thread that works on the newest item only; older ones that were not begun are dropped."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class NewestWorker(Generic[T]):
    """A mailbox for one item, and the thread that empties it.

    A queue would make every result as late as the queue is long; a camera's newest frame is the
    only one worth working on.
    """

    def __init__(self, work: Callable[[T], None], on_drop: Callable[[], None], name: str) -> None:
        """Prepare to call `work` for items and `on_drop` for each that is replaced by a newer one.

        `work` runs in the thread and must not raise; `on_drop` runs where `put` is called.
        """
        self._work = work
        self._on_drop = on_drop
        self._name = name
        self._changed = threading.Condition()
        self._item: T | None = None
        self._running = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, unless it runs."""
        if self._thread is not None:
            return
        self._running = True
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        """Hand over an item; one that still waits is dropped. Ignored unless running."""
        with self._changed:
            if not self._running:
                return
            dropped = self._item is not None
            self._item = item
            self._changed.notify()
        if dropped:
            self._on_drop()

    def stop(self) -> None:
        """Let the thread finish what it works on and wait for it; an item that waits is let go."""
        with self._changed:
            self._running = False
            self._item = None
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while (item := self._next()) is not None:
            self._work(item)

    def _next(self) -> T | None:
        """Wait for an item; None when the thread is to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._item is not None or not self._running)
            item, self._item = self._item, None
            return item
