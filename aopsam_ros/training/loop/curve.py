"""The training curve: from the log to a table and a plot."""

import csv
import io
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aopsam_ros.images.files import write_bytes

LOG_FILE, TABLE_FILE, PLOT_FILE = "training.jsonl", "curve.csv", "curve.png"
COLUMNS = ("step", "seconds", "loss", "held_out_loss")
# Held-out figures that a run may have: the predictor's, and a distilled encoder's.
FIGURES = ("held_out_recall", "held_out_prompts", "held_out_extents", "held_out_cosine")
Row = Mapping[str, Any]

_LOGGER = logging.getLogger(__name__)


def append(out: Path, figures: Row) -> None:
    """Add a line to the log."""
    with (out / LOG_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(figures) + "\n")


def read(out: Path) -> list[Row]:
    """Read the log; steps that a resumed run repeated count once, incomplete lines are left out."""
    rows: list[Row] = []
    for line in (out / LOG_FILE).read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
            step = row["step"]
        except (ValueError, KeyError, TypeError):
            continue
        while rows and rows[-1]["step"] >= step:
            rows.pop()
        rows.append(row)
    return rows


def write(out: Path) -> None:
    """Write `curve.csv`, and `curve.png` where Matplotlib is installed."""
    rows = read(out)
    table = io.StringIO()
    measured = {name for row in rows for name in row}
    columns = (*COLUMNS, *(name for name in FIGURES if name in measured))
    writer = csv.DictWriter(table, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(out / TABLE_FILE, table.getvalue().encode())
    try:
        plot = _plot(rows)
    except ImportError as error:
        _LOGGER.info("%s is not plotted: %s", PLOT_FILE, error)
    else:
        write_bytes(out / PLOT_FILE, plot)


def _plot(rows: list[Row]) -> bytes:
    """Plot losses above, the held-out figures below, over steps; return a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 7), layout="constrained")
    losses, shares = figure.subplots(2, sharex=True)
    _draw_line(losses, rows, "loss", "C0", "training")
    _draw_line(losses, rows, "held_out_loss", "C1", "held out")
    losses.set(ylabel="loss", yscale="log")
    _draw_line(shares, rows, "held_out_recall", "C1", "masks hit by a prompt")
    _draw_line(shares, rows, "held_out_extents", "C3", "mean IoU of the extents")
    _draw_line(shares, rows, "held_out_cosine", "C1", "cosine with the teacher")
    shares.set(xlabel="step", ylabel="held out", ylim=(0, 1))
    if any("held_out_prompts" in row for row in rows):
        prompts = shares.twinx()
        _draw_line(prompts, rows, "held_out_prompts", "C2", "prompts")
        prompts.set_ylabel("prompts an image, held out", color="C2")
        prompts.set_ylim(bottom=0)
    for axes in (losses, shares):
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=100)
    return content.getvalue()


def _draw_line(axes: Any, rows: list[Row], name: str, colour: str, label: str) -> None:  # noqa: ANN401
    points = [(row["step"], row[name]) for row in rows if name in row]
    if not points:
        return
    steps, values = [step for step, _ in points], [value for _, value in points]
    axes.plot(steps, values, color=colour, label=label, marker="o", markersize=2)
