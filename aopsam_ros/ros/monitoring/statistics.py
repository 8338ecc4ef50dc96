"""Counts of frames, their rates and latency, for the diagnostics."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.results import PromptState, Segmentation, Status
from aopsam_ros.streaming.flicker import camera_flicker

_LATENCY_WINDOW = 100  # frames
_FLICKER_WINDOW = 10  # reports
_SMALL = 160  # pixels of the longer side of images that are kept
_RATE_WINDOW = 5  # reports: a model may take longer than a second


@dataclass(frozen=True)
class Report:
    """Figures of the frames since the node was activated.

    They are counted as `received`, `lost` (by the middleware, on the way here), `segmented` (masks
    published), `dropped` (replaced by a newer one), `failed` (not segmented), `not_located`
    (segmented, but without the boxes in space that were subscribed to) and `not_shown` (likewise
    without another view).

    Latency runs from the receipt of an image to the publication of its masks, milliseconds; NaN
    before the first.
    """

    total: Counter[str] = field(default_factory=Counter)
    new: Counter[str] = field(default_factory=Counter)  # since the report before
    failing: bool = False  # the newest frame that was finished failed
    lost_share: float = 0.0  # of the images sent recently, 0-1
    input_rate_hz: float = 0.0
    output_rate_hz: float = 0.0
    latency_p50_ms: float = float("nan")
    latency_p95_ms: float = float("nan")
    prompts_decoded: int = 0  # of the newest frame
    prompts_unused: int = 0  # likewise: those that a budget left undecoded
    was_late: bool = False  # likewise: its time budget was spent before the first was decoded
    masks: int = 0  # likewise
    mask_flicker: float = float("nan")  # of the masks of the frame before, 0-1, recent mean
    # Of the last one that was `failed`, `not_located` and `not_shown`, by these.
    reasons: Mapping[str, str] = field(default_factory=dict)
    last_error: str = ""  # the last of them since the last report without one
    last_error_s: float = 0.0  # when, Unix time

    @property
    def prompts_wanted(self) -> int:
        """Prompts of the newest frame but for the eliminated: what it takes to decode them all."""
        return self.prompts_decoded + self.prompts_unused


class Statistics:
    """Counts frames; written by the executor's and the workers' threads, read by the executor's."""

    def __init__(self) -> None:
        """Begin with nothing counted."""
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Begin anew, as after activation."""
        with self._lock:
            self._counts: Counter[str] = Counter()
            self._reported = self._counts.copy()
            self._latencies: deque[float] = deque(maxlen=_LATENCY_WINDOW)
            self._newest: dict[str, Any] = {}
            # The two newest frames, and a small copy of each one's image.
            self._frames: deque[tuple[Segmentation, NDArray[np.uint8]]] = deque(maxlen=2)
            self._flicker: deque[float] = deque(maxlen=_FLICKER_WINDOW)
            self._is_measured = False  # since the last report
            self._failing = False
            self._last_error, self._last_error_s = "", 0.0
            self._reasons: dict[str, str] = {}
            # Time and counts at the beginning of each report's period.
            self._periods = deque([(time.monotonic(), self._reported)], maxlen=_RATE_WINDOW)

    def on_received(self) -> None:
        """Count an image that came."""
        with self._lock:
            self._counts["received"] += 1

    def on_dropped(self) -> None:
        """Count an image that was replaced by a newer one."""
        with self._lock:
            self._counts["dropped"] += 1

    def on_failed(self, reason: str) -> None:
        """Count an image that could not be segmented."""
        self.on_incomplete("failed", reason)

    def on_incomplete(self, what: str, reason: str) -> None:
        """Count a segmented image as `not_located` or `not_shown`; see `Report`."""
        with self._lock:
            self._counts[what] += 1
            self._failing |= what == "failed"
            self._reasons[what] = self._last_error = reason
            self._last_error_s = time.time()

    def on_segmented(
        self, segmentation: Segmentation, latency_s: float, rgb: NDArray[np.uint8]
    ) -> None:
        """Count an image, uint8 `[H, W, 3]`, whose masks were published."""
        step = -(-max(rgb.shape) // _SMALL)
        small = rgb[::step, ::step].copy()
        states = [prompt.state for prompt in segmentation.prompts]
        newest = {
            "prompts_decoded": segmentation.prompts_decoded,
            "prompts_unused": states.count(PromptState.UNUSED),
            "masks": len(segmentation.masks),
            "was_late": segmentation.status == Status.NO_TIME,
        }
        with self._lock:
            self._counts["segmented"] += 1
            self._failing = False
            self._latencies.append(1000.0 * latency_s)
            self._newest = newest
            self._frames.append((segmentation, small))

    def measure_flicker(self) -> None:
        """Compare the two newest frames, once a report; outside the lock.

        In a worker's thread: hundreds of masks of a large image take a second, in which the
        executor would serve no camera of the process.
        """
        with self._lock:
            if self._is_measured or len(self._frames) < 2:
                return
            self._is_measured = True
            (before, first), (after, second) = self._frames
            self._frames.clear()
        value = camera_flicker(before, after, (first, second))
        if value is not None:
            with self._lock:
                self._flicker.append(value)

    def report(self, lost: int | None = None) -> Report:
        """Return the figures; the period of the next report begins.

        `lost` are images since the last reset; None: as in the report before.
        """
        with self._lock:
            self._is_measured = False
            if lost is not None:
                self._counts["lost"] = lost
            now, total = time.monotonic(), self._counts.copy()
            new = total - self._reported
            if new["segmented"] and not (new["failed"] or new["not_located"] or new["not_shown"]):
                self._last_error, self._last_error_s = "", 0.0  # it has recovered
            began, then = self._periods[0]
            period = max(1e-3, now - began)
            recent = total - then
            p50, p95 = np.percentile(list(self._latencies) or [float("nan")], [50, 95])
            self._periods.append((now, total))
            self._reported = total
            return Report(
                total=total,
                new=new,
                failing=self._failing,
                lost_share=recent["lost"] / max(1, recent["lost"] + recent["received"]),
                input_rate_hz=recent["received"] / period,
                output_rate_hz=recent["segmented"] / period,
                latency_p50_ms=float(p50),
                latency_p95_ms=float(p95),
                **self._newest,
                mask_flicker=float(np.mean(list(self._flicker) or [float("nan")])),
                reasons=self._reasons.copy(),
                last_error=self._last_error,
                last_error_s=self._last_error_s,
            )
