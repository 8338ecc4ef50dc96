"""What was found, as a parameter file for the node and as lines for people."""

from collections.abc import Mapping

import yaml

from aopsam_ros.options import OPTIONS, Value
from aopsam_ros.tuning.score import Score
from aopsam_ros.tuning.tuner import Tuned


def to_yaml(tuned: Tuned, settings: Mapping[str, Value], limits: str) -> str:
    """Return a file for the launch files' `params_file`.

    `settings` are options that the user had set, and that belong to what was found; `limits` those
    of the search, in words.
    """
    chosen = {**settings, **tuned.options}
    parameters: dict[str, Value] = {"model": tuned.model, "prompt_source": tuned.prompt_source}
    parameters |= {name: chosen[name] for name in OPTIONS if name in chosen}
    remarks = [
        f"Found by `aopsam tune`, {limits}:",
        *table(tuned),
        "Start with it: ros2 launch aopsam_ros cpu.launch.py params_file:=FILE",
    ]
    head = "".join(f"# {line}".rstrip() + "\n" for line in remarks)
    content = yaml.safe_dump({"/**": {"ros__parameters": parameters}}, sort_keys=False)
    return f"{head}\n{content}"


def table(tuned: Tuned) -> list[str]:
    """Return the figures side by side: what was found, and the model's own options."""
    lines = [
        f"{'':24} {'PQ':>6} {'1-to-1':>7} {'closest':>8} {'masks':>7} {'prompts':>7} {'ms':>7}"
    ]
    sides = {"found": tuned.found, "own": tuned.own}
    for word, side in sides.items():
        title = f"{word}, {tuned.photographs} photographs"
        lines.append(f"{_figures(title, side.searched)} {side.milliseconds:7.0f}")
    for word, side in sides.items():
        if side.checked is not None:
            lines.append(_figures(f"{word}, {tuned.others} others", side.checked))
    if not tuned.others:
        lines.append("no photograph was held out to check this: its worth on others is unknown")
    return lines


def _figures(title: str, score: Score) -> str:
    return (
        f"{title:24} {score.pq:6.3f} {score.one_to_one:7.3f} {score.closest:8.3f}"
        f" {score.masks:7.1f} {score.prompts_decoded:7.1f}"
    )
