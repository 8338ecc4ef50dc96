"""Threads that work on the newest item only, and on tasks in between."""

import contextlib
import functools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
Job = Callable[[], None]
Wait = Callable[[], object]

THREAD_NAME = "aopsam_worker"
MOST_TASKS = 8  # that wait
PATIENCE_S = 60.0  # for the work at hand when it is to end; an engine may hang for ever
STUCK = "the engine does not finish what it is working on"


class NewestWorker(Generic[T]):
    """A mailbox for one item, a short queue of tasks, and the threads that empty both.

    A queue of items would make every result as late as the queue is long; a camera's newest frame
    is the only one worth segmenting. Tasks are what somebody waits for. Each thread takes a task
    and an item in turn, so that neither keeps the other from being done.
    """

    def __init__(
        self,
        work: Callable[[T, Wait], None],
        on_drop: Callable[[], None],
        on_error: Callable[[str], None],
        threads: int = 1,
        turns: contextlib.AbstractContextManager[object] | None = None,
    ) -> None:
        """Prepare to call `work` for items.

        Args:
            work: called in a thread with an item, and with a function that returns when all items
                before it are done: for what has to happen in order. It reports its own errors.
            on_drop: called in `put` for an item that gives way to a newer one.
            on_error: called with the name of what `work` or a task raised nevertheless, such as for
                want of memory to report it. The thread goes on.
            threads: that work side by side, each on an item of its own.
            turns: a thread's turn, one for each task and each item, taken before that is chosen:
                what comes while it waits replaces what waits.
        """
        self._work, self._on_drop, self._on_error = work, on_drop, on_error
        self._count = threads
        self._turns = turns or contextlib.nullcontext()
        self._since: dict[int, float] = {}  # monotonic seconds, by thread that does something
        self._changed = threading.Condition()
        self._item: T | None = None
        self._last_done = threading.Event()  # set when the item taken last is done
        self._last_done.set()
        self._tasks: deque[Job] = deque()
        self._running = False
        self._given_up = False
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the threads, unless they run."""
        if self._threads:
            return
        self._running = True
        for _ in range(self._count):
            thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
            thread.start()
            self._threads.append(thread)

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
        """Wait for the threads to finish what they work on; what waits is dropped.

        Raises:
            TimeoutError: if one does not finish; from then on there is no more waiting for it.
        """
        with self._changed:
            self._running = False
            self._item = None
            self._tasks.clear()
            self._changed.notify_all()
        end = time.monotonic() + (0.0 if self._given_up else PATIENCE_S)
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        self._given_up = any(thread.is_alive() for thread in self._threads)
        if self._given_up:
            raise TimeoutError(STUCK)
        self._threads = []

    @property
    def busy_s(self) -> float:
        """Seconds that the longest running item or task has taken so far; 0 where none runs."""
        with self._changed:
            return max((time.monotonic() - since for since in self._since.values()), default=0.0)

    def _run(self) -> None:
        while self._wait():
            # A turn each: a task may have lost its own.
            if self._tasks:
                with self._busy(), self._turns:
                    self._do(self._next_task())
            if self._item is not None:
                with self._busy(), self._turns:
                    self._do(self._next_item())

    def _wait(self) -> bool:
        """Wait until there is something to do; False when the thread is to end."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._item is not None or self._tasks or not self._running
            )
            return self._running

    def _next_task(self) -> Job | None:
        with self._changed:
            return self._tasks.popleft() if self._tasks else None

    def _next_item(self) -> Job | None:
        with self._changed:
            item, self._item = self._item, None
            if item is None:
                return None
            before, self._last_done = self._last_done, threading.Event()
            return functools.partial(self._work_in_order, item, before, self._last_done)

    def _work_in_order(self, item: T, before: threading.Event, done: threading.Event) -> None:
        try:
            self._work(item, before.wait)
        finally:
            before.wait()
            done.set()

    @contextlib.contextmanager
    def _busy(self) -> Iterator[None]:
        thread = threading.get_ident()
        with self._changed:
            self._since[thread] = time.monotonic()
        try:
            yield
        finally:
            with self._changed:
                del self._since[thread]

    def _do(self, job: Job | None) -> None:
        try:
            if job is not None:
                job()
        except Exception as error:
            self._on_error(type(error).__name__)
