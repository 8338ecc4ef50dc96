"""Tables of a report, as Markdown and as HTML."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from aopsam_ros.evaluation.figures import Figures

# Titles, names of figures, and how they are written: shares in percent.
COLUMNS = (
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


@dataclass(frozen=True)
class Table:
    """A title, what to know before reading it, and cells as text; the first column is a name."""

    title: str
    note: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    @classmethod
    def of(cls, title: str, note: str, rows: Sequence[tuple[str, Figures]]) -> Table:
        """Write named rows of the same figures in `COLUMNS`; a dash is what was not measured."""
        columns = [column for column in COLUMNS if column[1] in rows[0][1]]
        cells = [
            [name, *(_cell(form, figures[figure]) for _, figure, form in columns)]
            for name, figures in rows
        ]
        return cls(title, note, ["", *(column for column, _, _ in columns)], cells)

    def markdown(self) -> str:
        """Return the table as Markdown."""
        rows = (self.columns, ["---", *["---:"] * (len(self.columns) - 1)], *self.rows)
        note = f"{self.note}\n\n" if self.note else ""
        lines = "".join("| " + " | ".join(row) + " |\n" for row in rows)
        return f"## {self.title}\n\n{note}{lines}"

    def html(self) -> str:
        """Return the table as HTML."""
        note = f"<p>{html.escape(self.note)}</p>" if self.note else ""
        body = "\n".join(_line("td", row) for row in self.rows)
        return (
            f"<h2>{html.escape(self.title)}</h2>\n{note}\n<div class=wide><table>\n"
            f"<thead>{_line('th', self.columns)}</thead>\n"
            f"<tbody>\n{body}\n</tbody></table></div>\n"
        )


def _cell(form: str, value: float | None) -> str:
    return "-" if value is None else form.format(value).rstrip("%")


def _line(tag: str, cells: Sequence[str]) -> str:
    inside = "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)
    return f"<tr>{inside}</tr>"
