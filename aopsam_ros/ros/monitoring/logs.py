"""The node's log: records of the library, and repeated warnings held back."""

import contextlib
import logging
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

LIBRARY = "aopsam_ros"
MAX_KINDS = 64  # that are remembered; beyond, the one logged longest ago is forgotten

# What differs between two warnings of one kind: quoted input, and numbers.
_VARIABLE_PARTS = re.compile(r"'[^']*'|\"[^\"]*\"|[-+]?\d[\w.+-]*|[-+]?\b(nan|inf)\b")


class LogBridge(logging.Handler):
    """Passes log records of the library to a ROS logger, until `close`.

    Of several in a process, the one does so whose node the thread works for, see `speaking`; the
    oldest where that is none.
    """

    _of_thread = threading.local()  # `bridge`: the one that speaks

    def __init__(self, ros_logger: Any) -> None:  # noqa: ANN401  (rclpy's, which has no types)
        """Log to what a node's `get_logger` returns from now on."""
        super().__init__(logging.INFO)
        self._ros_logger = ros_logger
        self._library = logging.getLogger(LIBRARY)
        self._library.addHandler(self)
        self._library.setLevel(logging.INFO)
        self._library.propagate = False  # not on standard error as well

    def close(self) -> None:
        """End; harmless when repeated."""
        self._library.removeHandler(self)
        self._library.propagate = not _bridges()
        super().close()

    @contextlib.contextmanager
    def speaking(self) -> Iterator[None]:
        """Take what the library says in this thread for this node's."""
        before = getattr(self._of_thread, "bridge", None)
        self._of_thread.bridge = self
        try:
            yield
        finally:
            self._of_thread.bridge = before

    def emit(self, record: logging.LogRecord) -> None:
        """Log one record."""
        oldest = next(iter(_bridges()), None)  # none: the last one is just closing
        if self is not (getattr(self._of_thread, "bridge", None) or oldest):
            return
        message = record.getMessage()
        # One call a level: rclpy refuses another level from the same line.
        if record.levelno >= logging.ERROR:
            self._ros_logger.error(message)
        elif record.levelno >= logging.WARNING:
            self._ros_logger.warning(message)
        else:
            self._ros_logger.info(message)


def _bridges() -> list[logging.Handler]:
    handlers = logging.getLogger(LIBRARY).handlers
    return [handler for handler in handlers if isinstance(handler, LogBridge)]


def kind_of(message: str) -> str:
    """Return what a message has in common with others of its kind.

    Of a traceback that is the last line: what was raised.
    """
    lines = message.strip().splitlines() or [""]
    return _VARIABLE_PARTS.sub("#", lines[-1])


class Throttle:
    """Lets one message of each kind pass in a period. Thread-safe.

    rclpy throttles by the line of code that logs: one kind would hold back all others of that line.
    """

    def __init__(self, period_s: float) -> None:
        """Let one message of a kind pass in so many seconds."""
        self._period_s = period_s
        self._passed_at: dict[str, float] = {}  # by kind, oldest first
        self._lock = threading.Lock()

    def passes(self, message: str) -> bool:
        """Return whether to log a message now; if so, its period begins."""
        kind, now = kind_of(message), time.monotonic()
        with self._lock:
            if now - self._passed_at.get(kind, float("-inf")) < self._period_s:
                return False
            self._passed_at.pop(kind, None)
            self._passed_at[kind] = now
            if len(self._passed_at) > MAX_KINDS:
                del self._passed_at[next(iter(self._passed_at))]
            return True
