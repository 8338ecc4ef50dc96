"""Writes docs/interface.md from what the node itself is made of.

Run it as python docs/generate_interface.py. Topics come from `aopsam_ros.ros.subscriptions` and
`publishers`, parameters from `aopsam_ros.ros.parameter_table`, messages from msg/ and srv/. A test
fails when the file is stale.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticStatus

from aopsam_ros.options import OptionSpec
from aopsam_ros.ros import publishers, subscriptions
from aopsam_ros.ros.monitoring.diagnostics import HEALTH_RULES, VALUES
from aopsam_ros.ros.parameter_table import FIXED, TABLE

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "interface.md"
DIAGNOSTICS = (
    "/diagnostics",
    "diagnostic_msgs/DiagnosticArray",
    "1 Hz (REP 107): rates, latency, drops, prompts decoded, model, engine, last error",
)

ANNOTATIONS = (
    "~/annotations",
    "foxglove_msgs/ImageAnnotations",
    "outlines, ids or labels, and prompts, to be drawn over the image by Foxglove, which shows a "
    "mask's values on a click. Only where foxglove_msgs is installed",
)
TRANSFORMS = ("/tf, /tf_static", "tf2_msgs/TFMessage", "where `target_frame` is set")

LEVELS = {
    DiagnosticStatus.OK: "OK",
    DiagnosticStatus.WARN: "WARN",
    DiagnosticStatus.ERROR: "ERROR",
}
SERVICES = (
    (
        "~/segment",
        "aopsam_ros/Segment",
        "masks for points or a box of your own, on the newest or a given image; answered between "
        "two frames, while at most 8 requests wait",
    ),
    (
        "~/teach",
        "aopsam_ros/Teach",
        "a label by one example: a point, a box or a mask's id, on the newest image; from then on "
        "similar masks carry it",
    ),
    ("~/select", "aopsam_ros/Select", "which of the newest masks is meant, and its box in space"),
    ("~/follow", "aopsam_ros/Follow", "follow one thing: `~/target` says where it is"),
)


def generate() -> str:
    """Return the whole document."""
    parts = [
        "# Interface of the node `aopsam`",
        "Made by `docs/generate_interface.py`; do not edit.",
        "## Subscribed topics",
        table(("Topic", "Type", "What"), subscribed()),
        "Taken reliably where all their publishers offer that, else as best effort; one waits, "
        f"of depth and boxes the newest {subscriptions.PAIRED_DEPTH}, until the node takes them.",
        "## Published topics",
        table(("Topic", "Type", "What"), [*published(), ANNOTATIONS, DIAGNOSTICS]),
        "Reliable, volatile, depth 5, of `/diagnostics` 10. Every other message has its image's "
        "stamp, and its frame; what is in space has that of `target_frame` where one is set. All "
        "but `~/masks` and `/diagnostics` are made only while they have a subscriber.",
        "Quality of service of every topic above but `/tf` and `/tf_static` can be overridden at "
        "start, by ROS's own parameters: `qos_overrides.<full topic>.subscription.reliability`, or "
        "`publisher`, and `durability`, `history`, `depth`. A reliability of `system_default` "
        "stands for the choice described above.",
        "## Services",
        table(("Service", "Type", "What"), SERVICES),
        "## Parameters fixed while the node is configured",
        parameters(name for name in TABLE if name in FIXED),
        "## Parameters that may change at any time",
        "A change that is confirmed before an image arrives is in that image's messages; an image "
        "on which work has begun keeps what it arrived with. Options of `asf` and "
        "`mask` follow the model bundle's own defaults until they are set; the table shows the "
        "general ones. A float is written with a point, `0.0` for 0: ROS refuses the latter.",
        parameters(name for name in TABLE if name not in FIXED),
        "## Diagnostics",
        "One status, `<node>: segmentation`, once a second (REP 107). The first line that applies "
        "gives its level:",
        table(("Level", "When"), [(LEVELS[v.level], v.when) for v in HEALTH_RULES]),
        table(("Value", "What"), [(f"`{key}`", what) for key, (what, _) in VALUES.items()]),
        "## Messages and services",
        *(definition(file) for file in sorted([*ROOT.glob("msg/*.msg"), *ROOT.glob("srv/*.srv")])),
    ]
    return "\n\n".join(parts) + "\n"


def subscribed() -> list[tuple[str, str, str]]:
    """Return name, type and meaning of the topics that the node listens to."""
    topics = subscriptions.TOPICS.items()
    return [*((name, type_name(kind), what) for name, (kind, what) in topics), TRANSFORMS]


def published() -> list[tuple[str, str, str]]:
    """Return name, type and meaning of the node's own topics."""
    topics = publishers.TOPICS.items()
    return [(f"~/{name}", type_name(kind), what) for name, (kind, what) in topics]


def type_name(kind: type) -> str:
    """Return a message's name as ROS writes it in text: package/Message."""
    return f"{kind.__module__.split('.')[0]}/{kind.__name__}"


def parameters(names: Iterable[str]) -> str:
    """Return a table of parameters."""
    rows = [
        (f"`{n}`", TABLE[n].value_type.__name__, default(TABLE[n]), meaning(TABLE[n]))
        for n in names
    ]
    return table(("Parameter", "Type", "Default", "Meaning"), rows)


def default(spec: OptionSpec) -> str:
    """Return a default as YAML writes it."""
    return str(spec.default).lower() if spec.value_type is bool else str(spec.default)


def meaning(spec: OptionSpec) -> str:
    """Return the description with range or choices."""
    if spec.choices:
        return f"{spec.description} ({', '.join(spec.choices)})"
    if spec.minimum is None or spec.maximum is None:
        return spec.description
    return f"{spec.description} ({spec.minimum:.10g} to {spec.maximum:.10g})"


def definition(file: Path) -> str:
    """Return a message's or a service's definition under its name."""
    return f"### aopsam_ros/{file.stem}\n\n```\n{file.read_text(encoding='utf-8').strip()}\n```"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in r) + " |" for r in lines
    )


if __name__ == "__main__":
    TARGET.write_text(generate(), encoding="utf-8")
