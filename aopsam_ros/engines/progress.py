"""Telling that long work goes on: building an engine takes minutes, silence looks like a hang."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from aopsam_ros.engines.base import OnProgress

PERIOD_S = 1.0


class Heartbeat:
    """Calls `on_progress` once a second from a thread of its own, while its block runs.

    `set_share` may be called meanwhile, from any thread.
    """

    def __init__(self, what: str, on_progress: OnProgress) -> None:
        """Prepare to tell about `what`."""
        self._share: float | None = None
        self._what = what
        self._on_progress = on_progress
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="aopsam_progress", daemon=True)

    def set_share(self, share: float) -> None:
        """Tell how much is done, 0-1."""
        self._share = share

    def __enter__(self) -> Heartbeat:
        """Begin to tell."""
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Be silent again."""
        self._ended.set()
        self._thread.join()

    def _beat(self) -> None:
        while True:
            self._on_progress(self._what, self._share, time.monotonic() - self._began)
            if self._ended.wait(PERIOD_S):
                return
