"""Counts of frames and their latency, for the diagnostics."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass

import numpy as np

from aopsam_ros.results import Segmentation

_WINDOW = 100  # frames that latency is computed over
_RATE_REPORTS = 5  # that rates are computed over: a model may take longer than a second


@dataclass(frozen=True)
class Report:
    """Counts since the node was activated, and the latency of its newest frames.

    Latency runs from the receipt of an image to the publication of its masks, milliseconds; NaN
    before the first. `new_*` count since the report before, rates over the last five.
    """

    received: int = 0
    segmented: int = 0
    dropped: int = 0
    failed: int = 0
    not_located: int = 0
    not_shown: int = 0
    failing: bool = False  # the newest image that was finished failed
    new_segmented: int = 0
    new_failed: int = 0
    new_not_located: int = 0
    new_not_shown: int = 0
    input_rate_hz: float = 0.0
    output_rate_hz: float = 0.0
    latency_p50_ms: float = float("nan")
    latency_p95_ms: float = float("nan")
    decoder_calls: int = 0
    masks: int = 0
    last_error: str = ""


class Statistics:
    """Counts frames; written by the executor's and the workers' threads, read by the executor's."""

    def __init__(self) -> None:
        """Begin with nothing counted."""
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Begin anew, as after activation."""
        with self._lock:
            self._received = self._segmented = self._dropped = self._failed = 0
            self._latencies: deque[float] = deque(maxlen=_WINDOW)
            self._decoder_calls = self._masks = 0
            self._not_located = self._not_shown = 0
            self._failing = False
            self._last_error = ""
            self._reported = Report()
            # Time, received, segmented at the beginning of each report's period.
            self._periods = deque([(time.monotonic(), 0, 0)], maxlen=_RATE_REPORTS)

    def on_received(self) -> None:
        """Count an image that arrived."""
        with self._lock:
            self._received += 1

    def on_dropped(self) -> None:
        """Count an image that gave way to a newer one."""
        with self._lock:
            self._dropped += 1

    def on_failed(self, reason: str) -> None:
        """Count an image that could not be segmented."""
        with self._lock:
            self._failed += 1
            self._failing = True
            self._last_error = reason

    def on_not_located(self, reason: str) -> None:
        """Count an image whose masks could not be put into space, though somebody listens."""
        with self._lock:
            self._not_located += 1
            self._last_error = reason

    def on_not_shown(self, reason: str) -> None:
        """Count an image whose masks were published, but not all that was wanted beside them."""
        with self._lock:
            self._not_shown += 1
            self._last_error = reason

    def on_segmented(self, segmentation: Segmentation, latency_s: float) -> None:
        """Count an image whose masks were published."""
        with self._lock:
            self._segmented += 1
            self._failing = False
            self._latencies.append(1000.0 * latency_s)
            self._decoder_calls = segmentation.decoder_calls
            self._masks = len(segmentation.masks)

    @property
    def received(self) -> int:
        """Images that arrived since the last reset."""
        return self._received

    def report(self) -> Report:
        """Return the figures; the next report's new counts begin here."""
        with self._lock:
            before, now = self._reported, time.monotonic()
            since, received, segmented = self._periods[0]
            period = max(1e-3, now - since)
            p50, p95 = np.percentile(list(self._latencies) or [float("nan")], [50, 95])
            self._periods.append((now, self._received, self._segmented))
            self._reported = Report(
                received=self._received,
                segmented=self._segmented,
                dropped=self._dropped,
                failed=self._failed,
                failing=self._failing,
                new_segmented=self._segmented - before.segmented,
                new_failed=self._failed - before.failed,
                not_located=self._not_located,
                not_shown=self._not_shown,
                new_not_shown=self._not_shown - before.not_shown,
                new_not_located=self._not_located - before.not_located,
                input_rate_hz=(self._received - received) / period,
                output_rate_hz=(self._segmented - segmented) / period,
                latency_p50_ms=float(p50),
                latency_p95_ms=float(p95),
                decoder_calls=self._decoder_calls,
                masks=self._masks,
                last_error=self._last_error,
            )
            return self._reported
