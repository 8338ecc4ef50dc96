"""What the node says of itself on /diagnostics (REP 107): once a second, OK, WARN or ERROR."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from aopsam_ros.ros.monitoring.statistics import Report

STALLED_S = 10.0  # at one image or request: far beyond any model that a robot waits for


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
    busy_s: float = 0.0  # how long the image or request at hand has taken so far
    silent: bool = False  # active, but no image came for some seconds
    memory_mb: float = float("nan")
    gpu_memory_mb: float = float("nan")
    max_latency_ms: int = 0  # the user's limits; 0 is none
    min_rate_hz: float = 0.0


@dataclass(frozen=True)
class Health:
    """Everything that a diagnostics message is made of."""

    report: Report
    condition: Condition


@dataclass(frozen=True)
class Verdict:
    """A level, when it is given, and the summary that says so; empty where it does not apply."""

    level: bytes
    when: str
    summary: Callable[[Health], str]


def _if(holds: object, summary: str) -> str:
    return summary if holds else ""


# The first that applies counts; docs/interface.md is made from this. Drops alone are no fault: a
# camera may well be faster than the model.
VERDICTS = (
    Verdict(
        DiagnosticStatus.ERROR,
        "the last transition failed, such as a model that cannot be loaded",
        lambda h: h.condition.problem,
    ),
    Verdict(
        DiagnosticStatus.WARN,
        "an engine is still being built",
        lambda h: _if(h.condition.loading, f"not ready: {h.condition.loading}"),
    ),
    Verdict(
        DiagnosticStatus.OK,
        "the node is not active",
        lambda h: _if(not h.condition.active, "not active"),
    ),
    Verdict(
        DiagnosticStatus.ERROR,
        f"an image or a request has been worked on for more than {STALLED_S:g} seconds",
        lambda h: _if(
            h.condition.busy_s > STALLED_S,
            f"the engine has not answered for {h.condition.busy_s:.0f} s",
        ),
    ),
    Verdict(
        DiagnosticStatus.ERROR,
        "every image of the last second failed; or none came since one failed",
        lambda h: _if(
            h.report.failing and not (h.report.new_segmented or h.condition.silent),
            f"images cannot be segmented: {h.report.last_error}",
        ),
    ),
    Verdict(
        DiagnosticStatus.WARN,
        "an image of the last second failed",
        lambda h: _if(h.report.new_failed, f"some images failed: {h.report.last_error}"),
    ),
    Verdict(
        DiagnosticStatus.WARN,
        "somebody wants boxes or points in space, and depth or calibration do not fit",
        lambda h: _if(h.report.new_not_located, f"no boxes in space: {h.report.last_error}"),
    ),
    Verdict(
        DiagnosticStatus.WARN,
        "of an image of the last second, not all that is wanted beside the masks could be made",
        lambda h: _if(h.report.new_not_shown, f"shown in part only: {h.report.last_error}"),
    ),
    Verdict(
        DiagnosticStatus.WARN,
        "no image came for 5 seconds",
        lambda h: _if(h.condition.silent, "no images arrive"),
    ),
    Verdict(
        DiagnosticStatus.WARN,
        "`latency_p95_ms` is above `diagnostics.max_latency_ms`",
        lambda h: _if(
            0 < h.condition.max_latency_ms < h.report.latency_p95_ms,
            f"latency of {h.report.latency_p95_ms:.0f} ms is above {h.condition.max_latency_ms} ms",
        ),
    ),
    Verdict(
        DiagnosticStatus.WARN,
        "`output_rate_hz` is below `diagnostics.min_rate_hz`",
        lambda h: _if(
            h.report.output_rate_hz < h.condition.min_rate_hz,
            f"{h.report.output_rate_hz:.1f} frames a second are below {h.condition.min_rate_hz:g}",
        ),
    ),
    Verdict(DiagnosticStatus.OK, "otherwise", lambda _: "segmenting"),
)

# What each figure means, and where it is read; docs/interface.md is made from this.
VALUES: Mapping[str, tuple[str, Callable[[Health], str]]] = {
    "model": ("the bundle's name", lambda h: h.condition.model),
    "engine": ("what runs it", lambda h: h.condition.engine),
    "precision": ("how the engine computes", lambda h: h.condition.precision),
    "prompt_source": ("where prompts come from", lambda h: h.condition.prompt_source),
    "frames_received": ("images since activation", lambda h: str(h.report.received)),
    "frames_segmented": ("those whose masks were published", lambda h: str(h.report.segmented)),
    "frames_dropped": ("those that gave way to a newer one", lambda h: str(h.report.dropped)),
    "frames_failed": ("those that could not be segmented", lambda h: str(h.report.failed)),
    "frames_not_located": (
        "those segmented, but not put into space though somebody listens",
        lambda h: str(h.report.not_located),
    ),
    "input_rate_hz": (
        "images a second, over the last five",
        lambda h: f"{h.report.input_rate_hz:.1f}",
    ),
    "output_rate_hz": (
        "mask messages a second, likewise",
        lambda h: f"{h.report.output_rate_hz:.1f}",
    ),
    "latency_p50_ms": (
        "from an image's receipt to its masks, median of the last 100",
        lambda h: f"{h.report.latency_p50_ms:.1f}",
    ),
    "latency_p95_ms": (
        "the same, 95 of 100 are faster",
        lambda h: f"{h.report.latency_p95_ms:.1f}",
    ),
    "decoder_calls": (
        "prompts decoded for the newest frame",
        lambda h: str(h.report.decoder_calls),
    ),
    "masks": ("of the newest frame", lambda h: str(h.report.masks)),
    "memory_mb": ("resident memory of the process", lambda h: f"{h.condition.memory_mb:.0f}"),
    "gpu_memory_mb": (
        "in use on the GPU, by anybody; nan without one",
        lambda h: f"{h.condition.gpu_memory_mb:.0f}",
    ),
    "last_error": ("why the last image failed", lambda h: h.report.last_error),
}


def judge(report: Report, condition: Condition) -> tuple[bytes, str]:
    """Return level and summary: the first verdict that applies."""
    health = Health(report, condition)
    return next(
        (verdict.level, summary) for verdict in VERDICTS if (summary := verdict.summary(health))
    )


def diagnostic_array(
    name: str, stamp: Time, report: Report, condition: Condition
) -> DiagnosticArray:
    """Return the message for the node `name`."""
    level, summary = judge(report, condition)
    health = Health(report, condition)
    status = DiagnosticStatus(
        level=level,
        name=f"{name}: segmentation",
        message=summary,
        hardware_id=condition.model,
        values=[KeyValue(key=key, value=read(health)) for key, (_, read) in VALUES.items()],
    )
    message = DiagnosticArray(status=[status])
    message.header.stamp = stamp
    return message
