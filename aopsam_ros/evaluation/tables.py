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


# Titles and what stands below them: an attribute of `MeanFigures` or a recall, in percent.
_SHARES = {
    "PQ": "pq",
    "AR@100": "ar_100",
    "SQ": "sq",
    "RQ": "rq",
    "AR@10": "ar_10",
    "AR@1000": "ar_1000",
    "small": "ar_1000_small",
    "medium": "ar_1000_medium",
    "large": "ar_1000_large",
    "AP": "average_precision",
    "mIoU 1:1": "one_to_one",
    "boundary": "boundary_iou",
    "mIoU paper": "closest",
    "found .5": "coverage_50",
    "found .75": "coverage_75",
    "copies": "near_copies",
    "flicker": "flicker",
    "ECE": "calibration_error",
}
COLUMNS = (
    *_SHARES,
    *("masks", "prompts", "kept", "decoded", "dropped"),
    *("prompt ms", "p95", "total ms", "p95", "peak MB"),
)


def cells(figures: MeanFigures, peak_mb: float | None = None) -> tuple[str, ...]:
    """Return figures in the order of `COLUMNS`; shares in percent."""
    shares = {**vars(figures), **figures.recall}
    return (
        *(_percent(shares[name]) for name in _SHARES.values()),
        f"{figures.masks:.1f}",
        f"{figures.prompts:.1f}",
        f"{figures.kept:.1f}",
        f"{figures.prompts_decoded:.1f}",
        f"{100 * figures.eliminated:.0f} %",
        f"{figures.prompt_ms:.1f}",
        f"{figures.prompt_ms_p95:.1f}",
        f"{figures.total_ms:.0f}",
        f"{figures.total_ms_p95:.0f}",
        "-" if peak_mb is None else f"{peak_mb:.0f}",
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"
