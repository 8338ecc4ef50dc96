"""The report of an evaluation for people: report.html and report.md."""

from __future__ import annotations

import html
from collections.abc import Sequence

from aopsam_ros.evaluation.configurations import SWEEPS
from aopsam_ros.evaluation.harness import ALL
from aopsam_ros.evaluation.pictures import Example
from aopsam_ros.evaluation.plots import Point, draw_front, draw_sweep
from aopsam_ros.evaluation.results import Evaluation, Outcome
from aopsam_ros.evaluation.tables import COLUMNS, Table, cells

LEGEND = (
    "mIoU 1:1: greedy one-to-one matching, averaged over the true masks, unmatched ones count 0. "
    "mIoU paper: each predicted mask with its closest true one. found: share of the true masks "
    "reached with that IoU. AR and AP: COCO's, without classes. kept: prompts with a part in a "
    "mask. calls: prompts decoded. dropped: share of the prompts that filtering left undecoded. "
    "prompt ms: predictor, sampling and filtering; medians, and the 95th percentile beside them. "
    "prompt MB: largest growth of the process while prompts were made; run MB: its peak above what "
    "it had before the model was loaded. Shares in percent."
)
_STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;max-width:88rem;margin:2rem auto;padding:0 1rem;"
    "color:#222;background:#fff}table{border-collapse:collapse;font-size:13px;"
    "font-variant-numeric:tabular-nums}th,td{padding:.25rem .6rem;text-align:right;"
    "border-bottom:1px solid #ddd;white-space:nowrap}th:first-child,td:first-child{text-align:left}"
    ".wide{overflow-x:auto}svg{max-width:100%;height:auto}figure{margin:0}figcaption{font-size:12px}"
    ".examples{display:grid;gap:.7rem;margin-bottom:1rem}.examples img{width:100%}"
)
_SWEEP_TITLES = {
    "asf.smoothing_sigma": "Table 3: smoothing",
    "asf.confidence_threshold": "Table 3: confidence",
    "asf.min_spacing": "Table 3: spacing",
    "asf.elimination_threshold": "Table 3: elimination",
    "asf.elimination_cosine": "Elimination by cosine",
    "asf.max_prompts": "Budget of prompts",
}


def to_markdown(evaluation: Evaluation) -> str:
    """Return the report's tables as Markdown."""
    about = "\n".join(f"- {name}: {text}" for name, text in _about(evaluation))
    parts = [table.markdown() for table in tables(evaluation)]
    return "\n".join(["# Evaluation", "", about, "", LEGEND, "", *parts])


def to_html(evaluation: Evaluation, examples: Sequence[Sequence[Example]]) -> str:
    """Return the whole report as one page; its pictures lie beside it."""
    about = "".join(f"<li>{name}: {html.escape(text)}</li>" for name, text in _about(evaluation))
    body = [f"<h1>Evaluation</h1><ul>{about}</ul><p>{html.escape(LEGEND)}</p>"]
    body.append("<h2>mIoU against decoder calls</h2>")
    body.append("<p>Points without a name are the other configurations of the tables below.</p>")
    body.append(_front(evaluation))
    for table in tables(evaluation):
        body.append(table.html())
        body.append(_curves(evaluation, table.title))
    if examples:
        body.append("<h2>Best, median and worst photograph of the first source</h2>")
    body += [_row_of_examples(row) for row in examples]
    content = "\n".join(body)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>Evaluation</title>'
        f"<style>{_STYLE}</style>\n{content}\n</html>\n"
    )


def tables(evaluation: Evaluation) -> list[Table]:
    """Return the paper's tables 1 to 3 for these data, and the rules of filtering."""
    sources = evaluation.part("sources")
    found = [_table("Table 1: prompt sources, all photographs", "", sources)]
    if len(evaluation.data) > 1:
        found.append(_by_set(evaluation, sources))
    for part, title, note in (
        ("ablation", "Table 2: ablation", "predictor only: every peak of the map, unsmoothed"),
        ("rules", "Filtering rules", "how remaining prompts are dropped after each batch"),
    ):
        if evaluation.part(part):
            found.append(_table(title, note, evaluation.part(part)))
    for name, title in _SWEEP_TITLES.items():
        swept = _swept(evaluation, name)
        if swept:
            rule = swept[0].options["asf.filtering"]
            found.append(_table(title, f"one option changed at a time; rule: {rule}", swept))
    return found


def _about(evaluation: Evaluation) -> list[tuple[str, str]]:
    data = ", ".join(f"{name} ({count})" for name, count in evaluation.data.items())
    return [*evaluation.about.items(), ("photographs", data)]


def _swept(evaluation: Evaluation, name: str) -> list[Outcome]:
    return [o for o in evaluation.part("sweeps") if o.configuration.swept == name]


def _table(title: str, note: str, outcomes: Sequence[Outcome]) -> Table:
    rows = [(o.configuration.title, *cells(o.rows[ALL], o.memory)) for o in outcomes]
    return Table(title, note, ("", *COLUMNS), tuple(rows))


def _by_set(evaluation: Evaluation, outcomes: Sequence[Outcome]) -> Table:
    rows = [
        (f"{name}: {outcome.configuration.title}", *cells(outcome.rows[name])[:-2])
        for name in evaluation.data
        for outcome in outcomes
    ]
    return Table("Table 1 by data set", "", ("", *COLUMNS[:-2]), tuple(rows))


def _front(evaluation: Evaluation) -> str:
    points = []
    for outcome in evaluation.outcomes:
        what, row = outcome.configuration, outcome.rows[ALL]
        label = what.title if what.part == "sources" else ""
        # A logarithmic axis has no zero.
        points.append(Point(what.source, label, max(row.decoder_calls, 0.5), 100 * row.one_to_one))
    return draw_front(points, "decoder calls a photograph", "mIoU 1:1, %")


def _curves(evaluation: Evaluation, title: str) -> str:
    name = next((name for name in SWEEPS if _SWEEP_TITLES[name] == title), "")
    swept = _swept(evaluation, name)
    if not swept:
        return ""
    rows = [outcome.rows[ALL] for outcome in swept]
    curves = {
        "mIoU 1:1, %": [100 * row.one_to_one for row in rows],
        "total ms": [row.total_ms for row in rows],
        "eliminated, %": [100 * row.eliminated for row in rows],
    }
    if all(outcome.memory for outcome in swept):
        curves["run MB"] = [outcome.memory.run_mb for outcome in swept if outcome.memory]
    values = [float(outcome.configuration.value) for outcome in swept]
    return draw_sweep(values, curves, name)


def _row_of_examples(row: Sequence[Example]) -> str:
    figures = "".join(
        f'<figure><img src="{html.escape(example.file)}" alt="" loading="lazy">'
        f"<figcaption>{html.escape(example.caption)}</figcaption></figure>"
        for example in row
    )
    columns = f"grid-template-columns:repeat({len(row)},1fr)"
    return f'<div class="examples" style="{columns}">{figures}</div>'
