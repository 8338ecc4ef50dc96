"""The node's message on /diagnostics (REP 107): once a second, OK, WARN or ERROR."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from aopsam_ros.ros.monitoring.statistics import Report

STALLED_S = 10.0  # at one image or request: far beyond any model that a robot waits for


@dataclass(frozen=True)
class NodeStatus:
    """State of the node, beside the figures of its frames."""

    active: bool = False
    model: str = ""
    engine: str = ""
    precision: str = ""
    prompt_source: str = ""
    problem: str = ""  # why the last transition failed
    loading: str = ""  # progress of configure
    busy_s: float = 0.0  # how long the present image or request has taken so far
    silent: bool = False  # active, but no image came for some seconds
    memory_mb: float = float("nan")
    gpu_memory_mb: float = float("nan")
    max_latency_ms: int = 0  # the user's limits; 0: no limit
    min_rate_hz: float = 0.0


@dataclass(frozen=True)
class Health:
    """What a diagnostics message is made of."""

    report: Report
    status: NodeStatus


@dataclass(frozen=True)
class HealthRule:
    """A level and its summary, which is empty where the rule does not apply."""

    level: bytes
    when: str  # for docs/interface.md
    summary: Callable[[Health], str]


def _if(applies: object, summary: str) -> str:
    return summary if applies else ""


# The first rule that applies decides; docs/interface.md is made from this. Dropped images alone are
# no fault: a camera may well be faster than the model.
HEALTH_RULES = (
    HealthRule(
        DiagnosticStatus.ERROR,
        "the last transition failed, such as a model that cannot be loaded",
        lambda h: h.status.problem,
    ),
    HealthRule(
        DiagnosticStatus.WARN,
        "an engine is still being built",
        lambda h: _if(h.status.loading, f"not ready: {h.status.loading}"),
    ),
    HealthRule(
        DiagnosticStatus.OK,
        "the node is not active",
        lambda h: _if(not h.status.active, "not active"),
    ),
    HealthRule(
        DiagnosticStatus.ERROR,
        f"an image or a request has been worked on for more than {STALLED_S:g} seconds",
        lambda h: _if(
            h.status.busy_s > STALLED_S,
            f"the engine has not answered for {h.status.busy_s:.0f} s",
        ),
    ),
    HealthRule(
        DiagnosticStatus.ERROR,
        "every image of the last second failed; or none came since one failed",
        lambda h: _if(
            h.report.failing and not (h.report.new.segmented or h.status.silent),
            f"images cannot be segmented: {h.report.last_error}",
        ),
    ),
    HealthRule(
        DiagnosticStatus.WARN,
        "an image of the last second failed",
        lambda h: _if(h.report.new.failed, f"some images failed: {h.report.last_error}"),
    ),
    HealthRule(
        DiagnosticStatus.WARN,
        "boxes or points in space have a subscriber, and depth or calibration do not fit",
        lambda h: _if(h.report.new.not_located, f"no boxes in space: {h.report.last_error}"),
    ),
    HealthRule(
        DiagnosticStatus.WARN,
        "not all that has a subscriber could be published for an image of the last second",
        lambda h: _if(h.report.new.not_shown, f"shown in part only: {h.report.last_error}"),
    ),
    HealthRule(
        DiagnosticStatus.WARN,
        "no image came for 5 seconds",
        lambda h: _if(h.status.silent, "no images arrive"),
    ),
    HealthRule(
        DiagnosticStatus.WARN,
        "`latency_p95_ms` is above `diagnostics.max_latency_ms`",
        lambda h: _if(
            0 < h.status.max_latency_ms < h.report.latency_p95_ms,
            f"latency of {h.report.latency_p95_ms:.0f} ms is above {h.status.max_latency_ms} ms",
        ),
    ),
    HealthRule(
        DiagnosticStatus.WARN,
        "`output_rate_hz` is below `diagnostics.min_rate_hz`",
        lambda h: _if(
            h.report.output_rate_hz < h.status.min_rate_hz,
            f"{h.report.output_rate_hz:.1f} frames a second are below {h.status.min_rate_hz:g}",
        ),
    ),
    HealthRule(DiagnosticStatus.OK, "otherwise", lambda _: "segmenting"),
)

# Meaning of each value, and how it is read; docs/interface.md is made from this.
VALUES: Mapping[str, tuple[str, Callable[[Health], object]]] = {
    "model": ("the bundle's name", lambda h: h.status.model),
    "engine": ("what runs it", lambda h: h.status.engine),
    "precision": ("how the engine computes", lambda h: h.status.precision),
    "prompt_source": ("where prompts come from", lambda h: h.status.prompt_source),
    "frames_received": ("images since activation", lambda h: h.report.total.received),
    "frames_segmented": ("those whose masks were published", lambda h: h.report.total.segmented),
    "frames_dropped": ("those replaced by a newer one", lambda h: h.report.total.dropped),
    "frames_failed": ("those that could not be segmented", lambda h: h.report.total.failed),
    "frames_not_located": (
        "those segmented whose boxes in space, though subscribed to, could not be made",
        lambda h: h.report.total.not_located,
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
    "prompts_decoded": ("of the newest frame", lambda h: h.report.prompts_decoded),
    "masks": ("of the newest frame", lambda h: h.report.masks),
    "memory_mb": ("resident memory of the process", lambda h: f"{h.status.memory_mb:.0f}"),
    "gpu_memory_mb": (
        "in use on the GPU, by any process; nan without one",
        lambda h: f"{h.status.gpu_memory_mb:.0f}",
    ),
    "last_error": ("why the last image failed", lambda h: h.report.last_error),
}


def judge(health: Health) -> tuple[bytes, str]:
    """Return level and summary of the first rule that applies."""
    summaries = ((rule.level, rule.summary(health)) for rule in HEALTH_RULES)
    return next((level, summary) for level, summary in summaries if summary)


def diagnostic_array(name: str, stamp: Time, report: Report, status: NodeStatus) -> DiagnosticArray:
    """Return the diagnostics message of the node `name`."""
    health = Health(report, status)
    level, summary = judge(health)
    values = {key: str(read(health)) for key, (_, read) in VALUES.items()}
    message = DiagnosticArray()
    message.header.stamp = stamp
    message.status = [
        DiagnosticStatus(
            level=level,
            name=f"{name}: segmentation",
            message=summary,
            hardware_id=status.model,
            values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )
    ]
    return message
