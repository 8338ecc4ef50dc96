"""What a run found, for people: ratios first, then a table for each part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Found = Mapping[str, Any]  # a part's findings, or a model's by part


@dataclass(frozen=True)
class Ratio:
    """One figure that two measurements make."""

    model: str
    what: str
    value: float
    unit: str


def ratios(models: Mapping[str, Found]) -> list[Ratio]:
    """Return every ratio that the parts measured allow."""
    return [
        Ratio(model, what, value, unit)
        for model, found in models.items()
        for what, value, unit in _ratios_of(found)
    ]


def _ratios_of(found: Found) -> Iterator[tuple[str, float, str]]:
    frames = found.get("frames")
    if frames:
        ours, *grids = frames
        frame = ours["frame_ms"]["median"]
        if "official" in found:
            theirs = found["official"]["frame_ms"]["median"]
            yield "official automatic generator, torch, to ours", theirs / frame, "x"
        for grid in grids:
            what = f"{grid['prompts']} on the same engine to ours"
            yield what, grid["frame_ms"]["median"] / frame, "x"
        yield "prompt stage (predictor, ASF) of a frame", 100.0 * ours["prompt_share"], "%"
    yield from _graph_ratios(found.get("graphs", {}).get("rows", []))
    if "memory" in found:
        yield "prompt stage's memory above the encoder's", found["memory"]["prompt_stage_mb"], "MB"
    for row in found.get("growth", {}).get("budgets", []):
        what = f"longest frame with {row['budget_ms']} ms for each"
        yield what, row["frame_ms"]["max"] / row["budget_ms"], "x"
    for row in found.get("node", []):
        yield f"ROS overhead, {row['size']}", row["overhead_ms"], "ms"
        yield f"a plain node's answer, {row['size']}", row["plain_ms"], "ms"
        what = f"a plain node's answer, {row['size']}, Fast DDS's default settings"
        yield what, row["default_ms"], "ms"
        yield f"live node, {row['size']}", row["stream_fps"], "frames/s"
        what = f"live node, {row['size']}, {row['workers']} workers"
        yield what, row["workers_fps"], "frames/s"


def _graph_ratios(rows: Sequence[Found]) -> Iterator[tuple[str, float, str]]:
    """Compare the graphs with their floors, and the decoder's batches."""
    for row in rows:
        if row["times_floor"] is not None:
            yield f"{row['graph']} to its floor", row["times_floor"], "x"
    per_prompt = {_batch(row): row["ms"] / _batch(row) for row in rows if _batch(row)}
    if len(per_prompt) > 1:
        best = min(per_prompt, key=lambda size: per_prompt[size])
        yield f"decoder, a prompt at the best batch, {best}", per_prompt[best], "ms"


def _batch(row: Found) -> int:
    """Read `decoder, 8 at once`; 0 for other graphs."""
    words = row["graph"].split()
    return int(words[1]) if words[0] == "decoder," else 0


def as_text(results: Found) -> str:
    """Return the whole report."""
    parts = [_machine(results["machine"]), _table("Ratios", _ratio_lines(results["ratios"]))]
    if results["settings"]["quick"]:
        parts.insert(0, "A quick run shows that everything works. Its figures mean nothing.")
    for model, found in results["models"].items():
        parts += list(_model_tables(model, found))
    if results["left_out"]:
        parts.append(_table("Left out", [list(pair) for pair in results["left_out"].items()]))
    return "\n\n".join(parts)


def _machine(machine: Found) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    cores, memory = machine.get("cpu_count", "?"), machine["memory_gb"]
    load = machine.get("load_avg_1min", 0.0)
    text = f"{machine.get('cpu_model_name', 'unknown processor')}, {cores} cores, {memory} GB\n"
    text += f"{versions}\n"
    busy = " (the machine was busy: do not trust these figures)" if load > 0.5 else ""
    return f"{text}load at the start {load:.2f}{busy}"


def _ratio_lines(found: Sequence[Found]) -> list[list[str]]:
    return [[r["model"], r["what"], f"{r['value']:.3g} {r['unit']}"] for r in found]


def _model_tables(model: str, found: Found) -> Iterator[str]:
    if "frames" in found:
        yield _table(f"{model}: whole frames", _frame_lines(found))
        yield _table(f"{model}: stages of a frame, ms", _stage_lines(found["frames"]))
    if "graphs" in found:
        rate = f"{2e-9 * found['graphs']['multiplications_per_s']:.0f} GFLOP/s"
        yield _table(f"{model}: graphs; floors at {rate}", _graph_lines(found["graphs"]["rows"]))
    if "memory" in found:
        yield _table(f"{model}: memory", _memory_lines(found["memory"]))
    if "growth" in found:
        yield _table(f"{model}: growth", _growth_lines(found["growth"]))
    if "node" in found:
        yield _table(f"{model}: live node", _node_lines(found["node"]))


def _frame_lines(found: Found) -> list[list[str]]:
    lines = [["prompts", "ms", "from", "to", "frames", "decoded", "masks"]]
    for row in found["frames"]:
        lines.append(
            [row["prompts"], *_spread(row), str(row["prompts_decoded"]), str(row["masks"])]
        )
    if "official" in found:
        row = found["official"]
        name = f"official generator, torch {row['torch']}"
        lines.append([name, *_spread(row), "", str(row["masks"])])
    return lines


def _spread(row: Found) -> list[str]:
    spread = row["frame_ms"]
    return [*(f"{spread[key]:.1f}" for key in ("median", "min", "max")), str(spread["runs"])]


def _stage_lines(frames: Sequence[Found]) -> list[list[str]]:
    stages = list(frames[0]["stages_ms"])
    lines = [["prompts", *stages]]
    return lines + [
        [row["prompts"], *(f"{row['stages_ms'][stage]:.1f}" for stage in stages)] for row in frames
    ]


def _graph_lines(rows: Sequence[Found]) -> list[list[str]]:
    lines = [["graph", "ms", "+-", "GFLOP", "floor ms", "x floor"]]
    keys = ("ms", "scatter_ms", "gflop", "floor_ms", "times_floor")
    for row in rows:
        lines.append([row["graph"], *("" if row[k] is None else f"{row[k]:.3g}" for k in keys)])
    return lines


def _memory_lines(memory: Found) -> list[list[str]]:
    lines = [["process", "peak MB"], ["encoder alone", f"{memory['encoder_mb']:.0f}"]]
    lines.append(["prompt stage above it", f"{memory['prompt_stage_mb']:.1f}"])
    lines += [
        [f"pipeline, {row['prompts']} prompts", f"{row['peak_mb']:.0f}"]
        for row in memory["pipeline"]
    ]
    return lines


def _growth_lines(growth: Found) -> list[list[str]]:
    lines = [["", "ms a frame", "decoded", "masks"]]
    for kind, key, unit in (("prompts", "prompts", "prompts"), ("sizes", "size", "pixels")):
        for row in growth[kind]:
            lines.append([f"{row[key]} {unit}", *_growth_cells(row)])
    for row in growth["budgets"]:
        longest = f"longest {row['frame_ms']['max']:.1f} ms"
        lines.append([f"{row['budget_ms']} ms for a frame", *_growth_cells(row), longest])
    for row in growth["cameras"]:
        each = f"{row['fps_each']:.2f} frames/s each, {row['memory_mb']:.0f} MB in all"
        lines.append([f"{row['cameras']} cameras", each])
    return lines


def _growth_cells(row: Found) -> list[str]:
    return [f"{row['frame_ms']['median']:.1f}", str(row["decoded"]), str(row["masks"])]


def _node_lines(rows: Sequence[Found]) -> list[list[str]]:
    header = ["size", "live ms", "bare ms", "ROS ms", "plain node ms", "by default", "frames/s"]
    lines = [[*header, f"{rows[0]['workers']} workers", "masks"]]
    for row in rows:
        times = [f"{row[key]['median']:.1f}" for key in ("live_ms", "bare_ms")]
        figures = ("overhead_ms", "plain_ms", "default_ms", "stream_fps", "workers_fps")
        times += [f"{row[key]:.1f}" for key in figures]
        lines.append([row["size"], *times, str(row["masks"])])
    return lines


def _table(title: str, lines: Sequence[Sequence[str]]) -> str:
    """Align columns: the first to the left, the others as wide as they have to be."""
    count = max((len(line) for line in lines), default=0)
    # A last cell alone may be long without making its column wide.
    widths = [
        max((len(line[i]) for line in lines if i < len(line) - 1 or len(line) == count), default=0)
        for i in range(count)
    ]
    text = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=False)).rstrip()
        for line in lines
    ]
    return "\n".join([title, "-" * len(title), *text])
