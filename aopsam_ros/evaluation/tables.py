"""Tables of a report, as Markdown and as HTML."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from aopsam_ros.evaluation.memory_probe import MemoryFigures
from aopsam_ros.evaluation.summary import Row


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


COLUMNS = (
    "mIoU 1:1",
    "mIoU paper",
    "found .5",
    "found .75",
    "AR@1000",
    "AP",
    "masks",
    "prompts",
    "kept",
    "calls",
    "dropped",
    "prompt ms",
    "p95",
    "total ms",
    "p95",
    "prompt MB",
    "run MB",
)


def cells(row: Row, memory: MemoryFigures | None = None) -> tuple[str, ...]:
    """Return a row's figures in the order of `COLUMNS`; shares in percent."""
    return (
        _percent(row.one_to_one),
        _percent(row.closest),
        _percent(row.coverage_50),
        _percent(row.coverage_75),
        _percent(row.average_recall),
        _percent(row.average_precision),
        f"{row.masks:.1f}",
        f"{row.prompts:.1f}",
        f"{row.kept:.1f}",
        f"{row.decoder_calls:.1f}",
        f"{100 * row.eliminated:.0f} %",
        f"{row.prompt_ms:.1f}",
        f"{row.prompt_ms_p95:.1f}",
        f"{row.total_ms:.0f}",
        f"{row.total_ms_p95:.0f}",
        f"{memory.prompt_mb:.0f}" if memory else "-",
        f"{memory.run_mb:.0f}" if memory else "-",
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"
