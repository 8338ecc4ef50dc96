"""The report of an evaluation for people: report.html and report.md."""

from __future__ import annotations

import hashlib
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aopsam_ros.drawing.overlay import draw_overlay
from aopsam_ros.evaluation.evaluator import Evaluator
from aopsam_ros.evaluation.figures import Figures
from aopsam_ros.evaluation.images import read_image
from aopsam_ros.evaluation.plots import Point, draw_front, draw_reliability, draw_sweep
from aopsam_ros.evaluation.results import ALL, Evaluation, Outcome
from aopsam_ros.images.files import write_bytes, write_rgb

PUBLISHED_PROMPTS = (
    "published numbers of prompts, of SAM 2's Hiera-L with attention: low_latency 107.3, "
    "high_quality 213.1, sam3d 22.5; of SAM's ViT-L: sam1 300.5"
)
EXAMPLES = "examples"  # folder of the example images
LEGEND = (
    "PQ = SQ x RQ: panoptic quality without classes, matches at IoU above 0.5. AR and AP: COCO's, "
    "without classes; AR@1000 also by size. mIoU 1:1: greedy one-to-one matching, averaged over "
    "the ground truth, unmatched ones count 0; boundary: the boundary IoU of these pairs. "
    "mIoU paper: each predicted mask with its closest ground truth. found: share of the "
    "ground truth reached with that IoU. copies: masks with an IoU above 0.8 with a better one. "
    "flicker: masks without a partner in the next frame of a stream. ECE: calibration error of the "
    "scores. kept: prompts with a part in a mask. decoded: prompts decoded. dropped: share of the "
    "prompts that filtering left undecoded. prompt ms: predictor, sampling and filtering; medians, "
    "and the 95th percentile beside them. peak MB: the process's peak above what it had before the "
    "model was loaded. Shares in percent."
)
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
_STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;max-width:88rem;margin:2rem auto;padding:0 1rem;"
    "color:#222;background:#fff}table{border-collapse:collapse;font-size:13px;"
    "font-variant-numeric:tabular-nums}th,td{padding:.25rem .6rem;text-align:right;"
    "border-bottom:1px solid #ddd;white-space:nowrap}th:first-child,td:first-child{text-align:left}"
    ".wide{overflow-x:auto}svg{max-width:100%;height:auto}figure{margin:0}figcaption{font-size:12px}"
    ".examples{display:grid;gap:.7rem;margin-bottom:1rem}.examples img{width:100%}"
)


def write_report(evaluator: Evaluator, evaluation: Evaluation, folder: Path) -> None:
    """Write results.json, results.csv, report.md, report.html and its images, after a run.

    Raises:
        OSError: if a file cannot be written.
    """
    examples = draw_examples(evaluator, folder)
    files = {
        "results.json": evaluation.to_json(),
        "results.csv": evaluation.to_csv(),
        "report.md": to_markdown(evaluation),
        "report.html": to_html(evaluation, examples),
    }
    for name, text in files.items():
        write_bytes(folder / name, text.encode(errors="surrogateescape"))  # names of files


def to_markdown(evaluation: Evaluation) -> str:
    """Return the report's tables as Markdown."""
    about = [f"- {name}: {text}" for name, text in _about(evaluation).items()]
    parts = [table.markdown() for table in tables(evaluation)]
    return "\n".join(["# Evaluation", "", *about, "", LEGEND, "", *parts])


def to_html(evaluation: Evaluation, examples: Sequence[Sequence[tuple[str, str]]] = ()) -> str:
    """Return the whole report as one page; `examples` are rows of image files and captions."""
    about = [f"<li>{name}: {html.escape(text)}</li>" for name, text in _about(evaluation).items()]
    reliability = {
        o.configuration.title: o.figures[ALL]["reliability"] for o in evaluation.part("sources")
    }
    points = [
        Point(
            o.configuration.source,
            o.configuration.title if o.configuration.part == "sources" else "",
            max(o.figures[ALL]["prompts_decoded"], 0.5),  # a logarithmic axis has no zero
            100 * o.figures[ALL]["pq"],
        )
        for o in evaluation.outcomes
    ]
    body = [
        f"<h1>Evaluation</h1><ul>{''.join(about)}</ul><p>{html.escape(LEGEND)}</p>",
        "<h2>Panoptic quality against prompts decoded</h2>",
        "<p>Points without a name are the other configurations of the tables below.</p>",
        draw_front(points),
        *(table.html() for table in tables(evaluation)),
        *(_curves(name, swept) for name, swept in _sweeps(evaluation).items()),
        "<h2>Reliability of the scores</h2>",
        draw_reliability(reliability),
        *(["<h2>Best, median and worst image of the first source</h2>"] if examples else []),
        *(_row_of_examples(row) for row in examples),
    ]
    content = "\n".join(body)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>Evaluation</title>'
        f"<style>{_STYLE}</style>\n{content}\n</html>\n"
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


def tables(evaluation: Evaluation) -> list[Table]:
    """Return the paper's tables 1 to 3 for these data, and the rules of filtering."""
    sources = evaluation.part("sources")
    found = [_table("Table 1: prompt sources, all images", "", sources)]
    if len(evaluation.data) > 1:
        rows = [
            (f"{name}: {outcome.configuration.title}", outcome.figures[name])
            for name in evaluation.data
            for outcome in sources
        ]
        found.append(Table.of("Table 1 by data set", "", rows))
    for part, title, note in (
        ("ablation", "Table 2: ablation", "predictor only: every peak of the map, unsmoothed"),
        ("rules", "Filtering rules", "how remaining prompts are dropped after each batch"),
        ("presets", "Presets of clusters (Efficient SAM2, table 1)", PUBLISHED_PROMPTS),
        ("merging", "Suppressing and merging masks (Efficient SAM2, table 3)", ""),
    ):
        if outcomes := evaluation.part(part):
            found.append(_table(title, note, outcomes))
    for name, swept in _sweeps(evaluation).items():
        note = f"one option changed at a time; rule: {swept[0].options['asf.filtering']}"
        found.append(_table(f"Table 3: {name}", note, swept))
    return found


def _about(evaluation: Evaluation) -> dict[str, str]:
    data = ", ".join(f"{name} ({count})" for name, count in evaluation.data.items())
    return {**evaluation.about, "images": data}


def _sweeps(evaluation: Evaluation) -> dict[str, list[Outcome]]:
    """Return the outcomes by the option that was swept."""
    found: dict[str, list[Outcome]] = {}
    for outcome in evaluation.part("sweeps"):
        found.setdefault(outcome.configuration.swept, []).append(outcome)
    return found


def _table(title: str, note: str, outcomes: Sequence[Outcome]) -> Table:
    rows = [(o.configuration.title, o.figures[ALL] | {"peak_mb": o.peak_mb}) for o in outcomes]
    return Table.of(title, note, rows)


def _curves(name: str, swept: Sequence[Outcome]) -> str:
    figures = [outcome.figures[ALL] for outcome in swept]
    curves = {
        "PQ, %": [100 * one["pq"] for one in figures],
        "mIoU 1:1, %": [100 * one["one_to_one"] for one in figures],
        "total ms": [one["total_ms"] for one in figures],
        "eliminated, %": [100 * one["eliminated"] for one in figures],
        "peak MB": [outcome.peak_mb or 0.0 for outcome in swept],
    }
    values = [float(outcome.configuration.changes[name]) for outcome in swept]
    return draw_sweep(values, curves, name)


def _row_of_examples(row: Sequence[tuple[str, str]]) -> str:
    figures = "".join(
        f'<figure><img src="{html.escape(file)}" alt="" loading="lazy">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        for file, caption in row
    )
    columns = f"grid-template-columns:repeat({len(row)},1fr)"
    return f'<div class="examples" style="{columns}">{figures}</div>'


def draw_examples(evaluator: Evaluator, folder: Path) -> list[list[tuple[str, str]]]:
    """Draw what each prompt source finds where the first did best, middling and worst.

    Returns:
        a row for each image: files, relative to `folder`, and captions.
    """
    (folder / EXAMPLES).mkdir(exist_ok=True)
    sources = [one for one in evaluator.measurements if one.configuration.part == "sources"]
    first = sources[0].store.results
    ranked = sorted(evaluator.places, key=lambda key: (-first[key]["one_to_one"], key))
    rows = []
    for word, place in {"best": 0, "median": len(ranked) // 2, "worst": -1}.items():
        key = ranked[place]
        image = read_image(*evaluator.places[key])
        assert image is not None  # as when it was measured
        row = []
        for one in sources:
            title, figures = one.configuration.title, one.store.results[key]
            digest = hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()[:8]
            file = f"{EXAMPLES}/{word}_{title}_{digest}.jpg"
            write_rgb(folder / file, draw_overlay(image.rgb, one.segment(image)))
            caption = (
                f"{word}: {title}, {image.dataset.name}/{image.labelled.name}, mIoU 1:1 "
                f"{100 * figures['one_to_one']:.1f}, {figures['prompts_decoded']} prompts decoded"
            )
            row.append((file, caption))
        rows.append(row)
    return rows
