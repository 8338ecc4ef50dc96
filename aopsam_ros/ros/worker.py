"""One thread that works on the newest item only, and on tasks in between."""

from __future__ import annotations

import functools
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
Job = Callable[[], None]

MOST_TASKS = 8  # that wait
PATIENCE_S = 60.0  # for the work at hand when it is to end; an engine may hang for ever


class NewestWorker(Generic[T]):
    """A mailbox for one item, a short queue of tasks, and the thread that empties both.

    A queue of items would make every result as late as the queue is long; a camera's newest frame
    is the only one worth working on. Tasks are what somebody waits for: each has its turn, between
    two items, so that neither keeps the other from being done.
    """

    def __init__(
        self,
        work: Callable[[T], None],
        on_drop: Callable[[], None],
        on_error: Callable[[str], None],
        name: str,
    ) -> None:
        """Prepare to call `work` for items and `on_drop` for each that is replaced by a newer one.

        Args:
            work: runs in the thread, and tells itself of what goes wrong.
            on_drop: runs where `put` is called.
            on_error: given the name of what `work` or a task raised nevertheless, such as for want
                of the memory to tell of it. The thread goes on.
            name: of the thread.
        """
        self._work = work
        self._on_drop = on_drop
        self._on_error = on_error
        self._name = name
        self._since: float | None = None  # monotonic seconds, where something is being done
        self._changed = threading.Condition()
        self._item: T | None = None
        self._tasks: deque[Job] = deque()
        self._running = False
        self._given_up = False
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

    def submit(self, task: Job) -> bool:
        """Queue a task, which must not raise; False where too many wait, or nothing runs."""
        with self._changed:
            accepted = self._running and len(self._tasks) < MOST_TASKS
            if accepted:
                self._tasks.append(task)
                self._changed.notify()
        return accepted

    def stop(self) -> None:
        """Let the thread finish what it works on and wait for it; what waits is let go.

        Raises:
            TimeoutError: if it does not finish; from then on there is no more waiting for it.
        """
        with self._changed:
            self._running = False
            self._item = None
            self._tasks.clear()
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(0.0 if self._given_up else PATIENCE_S)
            self._given_up = self._thread.is_alive()
            if self._given_up:
                raise TimeoutError("the engine does not finish what it is working on")
            self._thread = None

    def _run(self) -> None:
        while self._wait():
            for take in (self._task, self._newest):  # turn by turn
                job = take()
                if job is not None:
                    self._do(job)

    def _do(self, job: Job) -> None:
        self._since = time.monotonic()
        try:
            job()
        except Exception as error:
            self._on_error(type(error).__name__)
        finally:
            self._since = None

    @property
    def busy_s(self) -> float:
        """For how long the thread has been at what it does; 0 where it waits."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    def _wait(self) -> bool:
        """Wait until there is something to do; False when the thread is to end."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._item is not None or self._tasks or not self._running
            )
            return self._running

    def _task(self) -> Job | None:
        with self._changed:
            return self._tasks.popleft() if self._tasks else None

    def _newest(self) -> Job | None:
        with self._changed:
            item, self._item = self._item, None
        return None if item is None else functools.partial(self._work, item)
