"""The node's message on /diagnostics (REP 107): once a second, OK, WARN or ERROR."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from aopsam_ros.ros.monitoring.statistics import Report

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
STALLED_S = 10.0  # at one image or request: far beyond any model that a robot waits for
MOST_LOST = 0.1  # share of the images, without a warning
REMEDY = "give the middleware room for large images, or send them compressed (docs/robot.md)"


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
class HealthRule:
    """A level and its summary, which is empty where the rule does not apply."""

    level: bytes
    when: str  # for docs/interface.md
    summary: Callable[[Report, NodeStatus], str]


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")


def _if(applies: object, summary: str) -> str:
    return summary if applies else ""


# The first rule that applies decides; docs/interface.md is made from this. Dropped images alone are
# no fault: a camera may well be faster than the model.
HEALTH_RULES = (
    HealthRule(
        ERROR,
        "the last transition failed, such as a model that cannot be loaded",
        lambda _, s: s.problem,
    ),
    HealthRule(
        WARN,
        "an engine is still being built",
        lambda _, s: _if(s.loading, f"not ready: {s.loading}"),
    ),
    HealthRule(OK, "the node is not active", lambda _, s: _if(not s.active, "not active")),
    HealthRule(
        ERROR,
        f"an image or a request has been worked on for more than {STALLED_S:g} seconds",
        lambda _, s: _if(s.busy_s > STALLED_S, f"the engine has not answered for {s.busy_s:.0f} s"),
    ),
    HealthRule(
        ERROR,
        "every image of the last second failed; or none came since one failed",
        lambda r, s: _if(
            r.failing and not (r.new["segmented"] or s.silent),
            f"images cannot be segmented: {r.reasons.get('failed')}",
        ),
    ),
    HealthRule(
        WARN,
        "an image of the last second failed",
        lambda r, _: _if(r.new["failed"], f"some images failed: {r.reasons.get('failed')}"),
    ),
    HealthRule(
        WARN,
        "boxes or points in space have a subscriber, and depth or calibration do not fit",
        lambda r, _: _if(
            r.new["not_located"], f"no boxes in space: {r.reasons.get('not_located')}"
        ),
    ),
    HealthRule(
        WARN,
        "not all that has a subscriber could be published for an image of the last second",
        lambda r, _: _if(r.new["not_shown"], f"shown in part only: {r.reasons.get('not_shown')}"),
    ),
    HealthRule(
        WARN,
        "more than a tenth of the images of the last five seconds were lost by the middleware",
        lambda r, _: _if(
            r.lost_share > MOST_LOST,
            f"{r.lost_share:.0%} of the images are lost on their way: {REMEDY}",
        ),
    ),
    HealthRule(WARN, "no image came for 5 seconds", lambda _, s: _if(s.silent, "no images arrive")),
    HealthRule(
        WARN,
        "`asf.time_budget_ms` was spent before the first prompt of the newest image was decoded",
        lambda r, _: _if(
            r.was_late,
            f"the time budget ends before the first of {r.prompts_wanted} prompts: "
            f"{r.prompts_decoded} are decoded all the same",
        ),
    ),
    HealthRule(
        WARN,
        "`asf.time_budget_ms` or `asf.max_prompts` left more than half of the prompts of the newest"
        " image undecoded, those that were eliminated not counted",
        lambda r, _: _if(
            2 * r.prompts_unused > r.prompts_wanted,
            f"budgets left {r.prompts_unused} of {r.prompts_wanted} prompts undecoded",
        ),
    ),
    HealthRule(
        WARN,
        "`latency_p95_ms` is above `diagnostics.max_latency_ms`",
        lambda r, s: _if(
            0 < s.max_latency_ms < r.latency_p95_ms,
            f"latency of {r.latency_p95_ms:.0f} ms is above {s.max_latency_ms} ms",
        ),
    ),
    HealthRule(
        WARN,
        "`output_rate_hz` is below `diagnostics.min_rate_hz`",
        lambda r, s: _if(
            r.output_rate_hz < s.min_rate_hz,
            f"{r.output_rate_hz:.1f} frames a second are below {s.min_rate_hz:g}",
        ),
    ),
    HealthRule(OK, "otherwise", lambda _, __: "segmenting"),
)

# Meaning of each value, and how it is read; docs/interface.md is made from this.
VALUES: Mapping[str, tuple[str, Callable[[Report, NodeStatus], object]]] = {
    "model": ("the bundle's name", lambda _, s: s.model),
    "engine": ("what runs it", lambda _, s: s.engine),
    "precision": ("how the engine computes", lambda _, s: s.precision),
    "prompt_source": (
        "where prompts come from, and of which model where not of this one",
        lambda _, s: s.prompt_source,
    ),
    "frames_received": ("images since activation", lambda r, _: r.total["received"]),
    "frames_lost": ("those that the middleware lost on their way", lambda r, _: r.total["lost"]),
    "frames_segmented": ("those whose masks were published", lambda r, _: r.total["segmented"]),
    "frames_dropped": ("those replaced by a newer one", lambda r, _: r.total["dropped"]),
    "frames_failed": ("those that could not be segmented", lambda r, _: r.total["failed"]),
    "frames_not_located": (
        "those segmented whose boxes in space, though subscribed to, could not be made",
        lambda r, _: r.total["not_located"],
    ),
    "input_rate_hz": ("images a second, over the last five", lambda r, _: f"{r.input_rate_hz:.1f}"),
    "output_rate_hz": ("mask messages a second, likewise", lambda r, _: f"{r.output_rate_hz:.1f}"),
    "latency_p50_ms": (
        "from an image's receipt to its masks, median of the last 100",
        lambda r, _: f"{r.latency_p50_ms:.1f}",
    ),
    "latency_p95_ms": ("the same, 95 of 100 are faster", lambda r, _: f"{r.latency_p95_ms:.1f}"),
    "prompts_decoded": ("of the newest frame", lambda r, _: r.prompts_decoded),
    "prompts_unused": (
        "of the newest frame: those that a budget left undecoded",
        lambda r, _: r.prompts_unused,
    ),
    "masks": ("of the newest frame", lambda r, _: r.masks),
    "mask_flicker": (
        "share of a frame's masks without a partner (IoU above 0.5) in the next, camera motion"
        " compensated: mean of two frames a second, of the last ten seconds; nan before",
        lambda r, _: f"{r.mask_flicker:.3f}",
    ),
    "memory_mb": ("resident memory of the process", lambda _, s: f"{s.memory_mb:.0f}"),
    "gpu_memory_mb": (
        "in use on the GPU, by any process; nan without one",
        lambda _, s: f"{s.gpu_memory_mb:.0f}",
    ),
    "last_error": (
        "when and why the last image failed, until a second of images passed without an error",
        lambda r, _: r.last_error and f"{_utc(r.last_error_s)}: {r.last_error}",
    ),
}


def judge(report: Report, status: NodeStatus) -> tuple[bytes, str]:
    """Return level and summary of the first rule that applies."""
    summaries = ((rule.level, rule.summary(report, status)) for rule in HEALTH_RULES)
    return next((level, summary) for level, summary in summaries if summary)


def diagnostic_array(name: str, stamp: Time, report: Report, status: NodeStatus) -> DiagnosticArray:
    """Return the diagnostics message of the node `name`."""
    level, summary = judge(report, status)
    values = {key: str(read(report, status)) for key, (_, read) in VALUES.items()}
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
