"""Where the time of a frame goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STAGES = (
    "preprocess",
    "encoder",
    "predictor",
    "sampling",
    "decoder",
    "filtering",
    "postprocess",
)


class Stopwatch:
    """Adds up the seconds spent in each stage since it was made."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        """Start now."""
        self._clock = clock
        self._start = clock()
        self._seconds = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time inside the `with` block to a stage of `STAGES`."""
        began = self._clock()
        try:
            yield
        finally:
            self._seconds[name] += self._clock() - began

    def elapsed(self) -> float:
        """Return the seconds since the start."""
        return self._clock() - self._start

    def timings_ms(self) -> dict[str, float]:
        """Return milliseconds by stage, and the total since the start."""
        timings = {name: seconds * 1e3 for name, seconds in self._seconds.items()}
        timings["total"] = self.elapsed() * 1e3
        return timings
