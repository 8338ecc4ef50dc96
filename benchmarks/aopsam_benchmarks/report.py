"""What a run found, for people: ratios first, then a table for each part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Found = Mapping[str, Any]  # a part's findings, or a model's by part
# Columns: titles and formats.
FRAMES = {
    "prompts": "{prompts}",
    "ms": "{frame_ms[median]:.1f}",
    "from": "{frame_ms[min]:.1f}",
    "to": "{frame_ms[max]:.1f}",
    "frames": "{frame_ms[runs]}",
    "decoded": "{prompts_decoded}",
    "masks": "{masks}",
}
PEERS = {
    "others' graphs, in turns with it": "{graph}",
    "ms": "{ms[median]:.1f}",
    "from": "{ms[min]:.1f}",
    "to": "{ms[max]:.1f}",
    "GFLOP": "{gflop}",
    "input": "{input}",
}
NODE = {
    "size": "{size}",
    "live ms": "{live_ms[median]:.1f}",
    "bare ms": "{bare_ms[median]:.1f}",
    "ROS ms": "{overhead_ms:.1f}",
    "plain node ms": "{plain_ms:.1f}",
    "by default": "{default_ms:.1f}",
    "frames/s": "{stream_fps:.1f}",
}


def ratios(models: Mapping[str, Found]) -> list[dict[str, Any]]:
    """Return every figure that two measurements make: its model, what it is, value and unit."""
    return [
        {"model": model, "what": what, "value": value, "unit": unit}
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
    ours, *peers = found.get("peers", [None])
    for peer in peers:
        yield f"{peer['graph']} to our frame", peer["ms"]["median"] / ours["ms"]["median"], "x"
    if "memory" in found:
        yield "prompt stage's memory above the encoder's", found["memory"]["prompt_stage_mb"], "MB"
    for row in found.get("growth", {}).get("budgets", []):
        what = f"longest frame with {row['budget_ms']} ms for each"
        yield what, row["frame_ms"]["max"] / row["budget_ms"], "x"
    for row in found.get("node", []):
        size = row["size"]
        plain, live = f"a plain node's answer, {size}", f"live node, {size}"
        yield f"ROS overhead, {size}", row["overhead_ms"], "ms"
        yield plain, row["plain_ms"], "ms"
        yield f"{plain}, Fast DDS's default settings", row["default_ms"], "ms"
        yield live, row["stream_fps"], "frames/s"
        yield f"{live}, {row['workers']} workers", row["workers_fps"], "frames/s"


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
    ratio_lines = [
        [ratio["model"], ratio["what"], f"{ratio['value']:.3g} {ratio['unit']}"]
        for ratio in results["ratios"]
    ]
    parts = [_machine(results["machine"]), _table("Ratios", ratio_lines)]
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


def _model_tables(model: str, found: Found) -> Iterator[str]:
    if "frames" in found:
        yield _table(f"{model}: whole frames", _frame_lines(found))
        stages = found["frames"][0]["stages_ms"]
        columns = {"prompts": "{prompts}"} | {name: f"{{stages_ms[{name}]:.1f}}" for name in stages}
        yield _table(f"{model}: stages of a frame, ms", _lines(found["frames"], columns))
    if "graphs" in found:
        rate = f"{2e-9 * found['graphs']['multiplications_per_s']:.0f} GFLOP/s"
        yield _table(f"{model}: graphs; floors at {rate}", _graph_lines(found["graphs"]["rows"]))
    if "peers" in found:
        rows = [r | {"gflop": f"{r['gflop']:.3g}" if r["gflop"] else ""} for r in found["peers"]]
        yield _table(f"{model}: beside others' graphs", _lines(rows, PEERS))
    if "memory" in found:
        yield _table(f"{model}: memory", _memory_lines(found["memory"]))
    if "growth" in found:
        yield _table(f"{model}: growth", _growth_lines(found["growth"]))
    if "node" in found:
        workers = f"{found['node'][0]['workers']} workers"
        columns = {**NODE, workers: "{workers_fps:.1f}", "masks": "{masks}"}
        yield _table(f"{model}: live node", _lines(found["node"], columns))


def _lines(rows: Sequence[Found], columns: Mapping[str, str]) -> list[list[str]]:
    """Write rows in columns, whose titles map to formats, below the titles."""
    return [[*columns], *([form.format(**row) for form in columns.values()] for row in rows)]


def _frame_lines(found: Found) -> list[list[str]]:
    rows = list(found["frames"])
    if "official" in found:
        name = f"official generator, torch {found['official']['torch']}"
        rows.append({**found["official"], "prompts": name, "prompts_decoded": ""})
    return _lines(rows, FRAMES)


def _graph_lines(rows: Sequence[Found]) -> list[list[str]]:
    lines = [["graph", "ms", "+-", "GFLOP", "floor ms", "x floor"]]
    keys = ("ms", "scatter_ms", "gflop", "floor_ms", "times_floor")
    for row in rows:
        lines.append([row["graph"], *("" if row[k] is None else f"{row[k]:.3g}" for k in keys)])
    return lines


def _memory_lines(memory: Found) -> list[list[str]]:
    return [
        ["process", "peak MB"],
        ["encoder alone", f"{memory['encoder_mb']:.0f}"],
        ["prompt stage above it", f"{memory['prompt_stage_mb']:.1f}"],
        *([f"pipeline, {r['prompts']} prompts", f"{r['peak_mb']:.0f}"] for r in memory["pipeline"]),
    ]


def _growth_lines(growth: Found) -> list[list[str]]:
    lines = [["", "ms a frame", "decoded", "masks"]]
    for kind, name in (
        ("prompts", "{prompts} prompts"),
        ("sizes", "{size} pixels"),
        ("budgets", "{budget_ms} ms for a frame"),
    ):
        for row in growth[kind]:
            cells = [f"{row['frame_ms']['median']:.1f}", str(row["decoded"]), str(row["masks"])]
            cells += [f"longest {row['frame_ms']['max']:.1f} ms"] if kind == "budgets" else []
            lines.append([name.format(**row), *cells])
    for row in growth["cameras"]:
        each = f"{row['fps_each']:.2f} frames/s each, {row['memory_mb']:.0f} MB in all"
        lines.append([f"{row['cameras']} cameras", each])
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
