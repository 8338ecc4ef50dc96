"""One engine for the nodes of a process: loaded once, used in turn."""

import contextlib
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any, cast

from aopsam_ros.bundle.loading import Bundle
from aopsam_ros.engines.base import EngineOptions, OnProgress
from aopsam_ros.engines.engine import Engine
from aopsam_ros.engines.registry import create_engine
from aopsam_ros.ros import worker


class FairTurns:
    """Lets threads pass in the order in which they asked, `limit` of them at a time.

    A lock is not fair: whoever frees it may take it again at once, and another camera's image waits
    for ever.

    Attributes:
        limit: how many threads have a turn at once.
        waiting: threads without one, in the order in which they asked.
    """

    def __init__(self) -> None:
        self.limit = 1
        self.waiting: deque[int] = deque()
        self._changed = threading.Condition()
        self._holders: set[int] = set()  # threads

    def __enter__(self) -> None:
        self._take(None)

    @contextlib.contextmanager
    def in_time(self) -> Iterator[None]:
        """Take a turn, as by `with` alone, but for a thread that must not wait for ever.

        Raises:
            TimeoutError: if no turn comes: an engine may hang.
        """
        self._take(worker.PATIENCE_S)
        try:
            yield
        finally:
            self.end()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Let others pass, while the thread that has a turn does something long without the engine.

        Raises:
            TimeoutError: if no turn comes afterwards; the thread has none then.
        """
        self.end()
        try:
            yield
        finally:
            self._take(worker.PATIENCE_S)

    def _take(self, seconds: float | None) -> None:
        thread = threading.get_ident()
        with self._changed:
            self.waiting.append(thread)
            try:
                if not self._changed.wait_for(
                    lambda: self.waiting[0] == thread and len(self._holders) < self.limit, seconds
                ):
                    raise TimeoutError(worker.STUCK)
                self._holders.add(thread)
            finally:  # a signal may end the wait, too
                self.waiting.remove(thread)
                self._changed.notify_all()

    def end(self) -> None:
        """End the thread's turn; harmless when repeated."""
        with self._changed:
            self._holders.discard(threading.get_ident())
            self._changed.notify_all()

    def __exit__(self, *_: object) -> None:
        self.end()


class SharedEngine:
    """An engine that is closed when the last of its users has closed it.

    Attributes:
        engine: the engine; its attributes are this object's, too.
        turns: a thread takes one for an image, from encoding to its last use of the engine.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.turns = FairTurns()
        self.users = 0

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  (the engine's)
        return getattr(self.engine, name)

    def close(self) -> None:
        """Give the engine back."""
        self.users -= 1
        if self.users == 0:
            self.engine.close()


class SharedEngines:
    """The engines of a process, one for each model, engine, precision and number of threads."""

    def __init__(self) -> None:
        self._engines: dict[tuple[str, EngineOptions], SharedEngine] = {}

    def create(self, bundle: Bundle, options: EngineOptions, on_progress: OnProgress) -> Engine:
        """Return the engine that is there, else a new one; errors as of `create_engine`."""
        key = bundle.digest, options  # no path: a folder's content may have been replaced meanwhile
        shared = self._engines.get(key)
        if shared is None or not shared.users:
            shared = self._engines[key] = SharedEngine(create_engine(bundle, options, on_progress))
        shared.users += 1
        return cast("Engine", shared)  # by its __getattr__
