"""Tables of a report, as Markdown and as HTML."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from aopsam_ros.evaluation.figures import MeanFigures


@dataclass(frozen=True)
class Table:
    """A title, what to know before reading it, and cells as text; the first column is a name."""

    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """Return the table as Markdown."""
        lines = [f"## {self.title}", "", self.note, ""] if self.note else [f"## {self.title}", ""]
        lines.append("| " + " | ".join(self.columns) + " |")
        lines.append("|---" + "|---:" * (len(self.columns) - 1) + "|")
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        return "\n".join(lines) + "\n"

    def html(self) -> str:
        """Return the table as HTML."""
        note = f"<p>{html.escape(self.note)}</p>" if self.note else ""
        head = _line("th", self.columns)
        body = "\n".join(_line("td", row) for row in self.rows)
        return (
            f"<h2>{html.escape(self.title)}</h2>\n{note}\n<div class=wide><table>\n"
            f"<thead>{head}</thead>\n<tbody>\n{body}\n</tbody></table></div>\n"
        )


def _line(tag: str, cells: Sequence[str]) -> str:
    inside = "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)
    return f"<tr>{inside}</tr>"


# Titles, an attribute of `MeanFigures` or a recall, and how it is written: shares in percent.
_COLUMNS = (
    ("PQ", "pq", "{:.1%}"),
    ("AR@100", "ar_100", "{:.1%}"),
    ("SQ", "sq", "{:.1%}"),
    ("RQ", "rq", "{:.1%}"),
    ("AR@10", "ar_10", "{:.1%}"),
    ("AR@1000", "ar_1000", "{:.1%}"),
    ("small", "ar_1000_small", "{:.1%}"),
    ("medium", "ar_1000_medium", "{:.1%}"),
    ("large", "ar_1000_large", "{:.1%}"),
    ("AP", "average_precision", "{:.1%}"),
    ("mIoU 1:1", "one_to_one", "{:.1%}"),
    ("boundary", "boundary_iou", "{:.1%}"),
    ("mIoU paper", "closest", "{:.1%}"),
    ("found .5", "coverage_50", "{:.1%}"),
    ("found .75", "coverage_75", "{:.1%}"),
    ("copies", "near_copies", "{:.1%}"),
    ("flicker", "flicker", "{:.1%}"),
    ("ECE", "calibration_error", "{:.1%}"),
    ("masks", "masks", "{:.1f}"),
    ("prompts", "prompts", "{:.1f}"),
    ("kept", "kept", "{:.1f}"),
    ("decoded", "prompts_decoded", "{:.1f}"),
    ("dropped", "eliminated", "{:.0%}"),
    ("prompt ms", "prompt_ms", "{:.1f}"),
    ("p95", "prompt_ms_p95", "{:.1f}"),
    ("total ms", "total_ms", "{:.0f}"),
    ("p95", "total_ms_p95", "{:.0f}"),
    ("peak MB", "peak_mb", "{:.0f}"),
)
COLUMNS = tuple(title for title, _, _ in _COLUMNS)


def cells(figures: MeanFigures, peak_mb: float | None = None) -> tuple[str, ...]:
    """Return figures in the order of `COLUMNS`; a dash where nothing was measured."""
    known = {**vars(figures), **figures.recall, "peak_mb": peak_mb}
    return tuple(
        "-" if known[name] is None else form.format(known[name]).rstrip("%")
        for _, name, form in _COLUMNS
    )
