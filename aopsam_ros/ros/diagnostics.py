"""What the node says of itself on /diagnostics (REP 107): once a second, OK, WARN or ERROR."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from aopsam_ros.segmentation import Segmentation

_WINDOW = 100  # frames that latency is computed over


@dataclass(frozen=True)
class Report:
    """Counts since the node was activated, and the latency of its newest frames.

    Latency runs from the receipt of an image to the publication of its masks, milliseconds; NaN
    before the first. `new_*` and the rates count since the report before.
    """

    received: int = 0
    segmented: int = 0
    dropped: int = 0
    failed: int = 0
    new_segmented: int = 0
    new_failed: int = 0
    input_rate_hz: float = 0.0
    output_rate_hz: float = 0.0
    latency_p50_ms: float = float("nan")
    latency_p95_ms: float = float("nan")
    decoder_calls: int = 0
    masks: int = 0
    last_error: str = ""


class Statistics:
    """Counts frames; written by the executor's and the worker's thread, read by the executor's."""

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
            self._last_error = ""
            self._reported = Report()
            self._reported_at = time.monotonic()

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
            self._last_error = reason

    def on_segmented(self, segmentation: Segmentation, latency_s: float) -> None:
        """Count an image whose masks were published."""
        with self._lock:
            self._segmented += 1
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
            period = max(1e-3, now - self._reported_at)
            p50, p95 = np.percentile(list(self._latencies) or [float("nan")], [50, 95])
            self._reported_at = now
            self._reported = Report(
                received=self._received,
                segmented=self._segmented,
                dropped=self._dropped,
                failed=self._failed,
                new_segmented=self._segmented - before.segmented,
                new_failed=self._failed - before.failed,
                input_rate_hz=(self._received - before.received) / period,
                output_rate_hz=(self._segmented - before.segmented) / period,
                latency_p50_ms=float(p50),
                latency_p95_ms=float(p95),
                decoder_calls=self._decoder_calls,
                masks=self._masks,
                last_error=self._last_error,
            )
            return self._reported


@dataclass(frozen=True)
class Condition:
    """What the node is doing, beside its figures; `problem` is set where it cannot go on."""

    active: bool = False
    model: str = ""
    engine: str = ""
    precision: str = ""
    prompt_source: str = ""
    problem: str = ""
    loading: str = ""  # what is being done before it can begin
    silent: bool = False  # active, but no image came for some seconds


def judge(report: Report, condition: Condition) -> tuple[bytes, str]:
    """Return level and summary.

    ERROR: it could not be configured, or every image of the last second failed. WARN: some failed,
    none arrive, or an engine is still being built. Drops alone are no fault: a camera may well be
    faster than the model.
    """
    if condition.problem:
        return DiagnosticStatus.ERROR, condition.problem
    if condition.loading:
        return DiagnosticStatus.WARN, f"not ready: {condition.loading}"
    if not condition.active:
        return DiagnosticStatus.OK, "not active"
    if report.new_failed and not report.new_segmented:
        return DiagnosticStatus.ERROR, f"images cannot be segmented: {report.last_error}"
    if report.new_failed:
        return DiagnosticStatus.WARN, f"some images failed: {report.last_error}"
    if condition.silent:
        return DiagnosticStatus.WARN, "no images arrive"
    return DiagnosticStatus.OK, "segmenting"


def diagnostic_array(
    name: str, stamp: Time, report: Report, condition: Condition
) -> DiagnosticArray:
    """Return the message for the node `name`."""
    level, summary = judge(report, condition)
    status = DiagnosticStatus(
        level=level,
        name=f"{name}: segmentation",
        message=summary,
        hardware_id=condition.model,
        values=[KeyValue(key=key, value=value) for key, value in _values(report, condition)],
    )
    message = DiagnosticArray(status=[status])
    message.header.stamp = stamp
    return message


def _values(report: Report, condition: Condition) -> list[tuple[str, str]]:
    return [
        ("model", condition.model),
        ("engine", condition.engine),
        ("precision", condition.precision),
        ("prompt_source", condition.prompt_source),
        ("frames_received", str(report.received)),
        ("frames_segmented", str(report.segmented)),
        ("frames_dropped", str(report.dropped)),
        ("frames_failed", str(report.failed)),
        ("input_rate_hz", f"{report.input_rate_hz:.1f}"),
        ("output_rate_hz", f"{report.output_rate_hz:.1f}"),
        ("latency_p50_ms", f"{report.latency_p50_ms:.1f}"),
        ("latency_p95_ms", f"{report.latency_p95_ms:.1f}"),
        ("decoder_calls", str(report.decoder_calls)),
        ("masks", str(report.masks)),
        ("last_error", report.last_error),
    ]
