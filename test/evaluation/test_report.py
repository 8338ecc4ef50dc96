"""The report of known results, word for word where it matters."""

import re

import pytest

from aopsam_ros.evaluation.coco_metrics import RECALLS
from aopsam_ros.evaluation.configurations import Configuration
from aopsam_ros.evaluation.plots import Point, pareto_front
from aopsam_ros.evaluation.report import tables, to_html, to_markdown
from aopsam_ros.evaluation.results import Evaluation, Outcome


def row(one_to_one, decoded):
    """Figures that are what they have to be, in the order of results.csv."""
    return {
        "images": 2,
        **{"pq": one_to_one - 0.2, "sq": 0.8, "rq": 0.75},
        **{name: number / 100 for number, name in enumerate(RECALLS)},
        "average_precision": 0.1,
        **{"one_to_one": one_to_one, "boundary_iou": 0.35, "closest": 0.25},
        **{"coverage_50": 0.5, "coverage_75": 1 / 3, "near_copies": 0.4567},
        **{"flicker": None, "calibration_error": 0.031},
        **{"masks": 12.0, "prompts": 40.0, "kept": 9.5, "prompts_decoded": decoded},
        "eliminated": 0.256,
        **{"prompt_ms": 12.34, "prompt_ms_p95": 20.0, "total_ms": 345.6, "total_ms_p95": 400.4},
        "reliability": [
            {"score": 0.55, "iou": 0.5, "masks": 7},
            {"score": 0.85, "iou": 0.9, "masks": 5},
        ],
    }


def outcome(part, title, source, value, decoded, swept=""):
    changes = {swept: float(title.split(" = ")[1])} if swept else {}
    what = Configuration(part, title, source, changes, swept)
    rows = {"kitchen": row(value - 0.1, decoded), "street": row(value + 0.1, decoded)}
    rows["all"] = row(value, decoded)
    return Outcome(what, {"asf.filtering": "paper"}, rows, 250.6)


@pytest.fixture
def evaluation():
    sweep = "asf.min_spacing"
    outcomes = [
        outcome("sources", "predictor", "predictor", 0.6, 30.0),
        outcome("sources", "grid16", "grid16", 0.5, 256.0),
        outcome("ablation", "predictor only", "predictor", 0.62, 90.0),
        outcome("ablation", "+ sampling", "predictor", 0.61, 40.0),
        outcome("rules", "inside", "predictor", 0.58, 20.0),
        outcome("sweeps", f"{sweep} = 4", "predictor", 0.63, 60.0, sweep),
        outcome("sweeps", f"{sweep} = 8", "predictor", 0.55, 15.0, sweep),
    ]
    about = {"model": "nano 9", "machine": "a <fast> one"}
    return Evaluation(about, {"kitchen": 1, "street": 1}, outcomes)


LINE = (
    "| predictor | 40.0 | 1.0 | 80.0 | 75.0 | 0.0 | 2.0 | 5.0 | 8.0 | 11.0 | 10.0 | 60.0 | 35.0 "
    "| 25.0 | 50.0 | 33.3 | 45.7 | - | 3.1 | 12.0 | 40.0 | 9.5 | 30.0 | 26 | 12.3 | 20.0 | 346 "
    "| 400 | 251 |"
)


def test_markdown_word_for_word(evaluation):
    text = to_markdown(evaluation)
    lines = text.splitlines()
    assert lines[2:4] == ["- model: nano 9", "- machine: a <fast> one"]
    assert [line for line in lines if line.startswith("## ")] == [
        "## Table 1: prompt sources, all images",
        "## Table 1 by data set",
        "## Table 2: ablation",
        "## Filtering rules",
        "## Table 3: asf.min_spacing",
    ]
    assert LINE in lines
    assert all({*map(len, table.rows)} == {len(table.columns)} for table in tables(evaluation))
    assert "one option changed at a time; rule: paper" in lines


def test_the_front_holds_what_nothing_beats_for_less():
    pairs = (30, 60), (256, 50), (20, 40), (20, 45), (90, 60), (100, 61)
    found = pareto_front([Point("s", "", x, y) for x, y in pairs])
    assert [(point.x, point.y) for point in found] == [(20, 45), (30, 60), (100, 61)]
    assert pareto_front([]) == []


@pytest.mark.needs("matplotlib")
def test_the_page_holds_tables_plots_and_examples(evaluation):
    examples = [[("examples/best_predictor_1.jpg", "best: predictor <0.9>")]]
    page = to_html(evaluation, examples)
    assert page == to_html(evaluation, examples)  # no date, no random names
    assert "a &lt;fast&gt; one" in page and "<fast>" not in page
    assert page.count("<table>") == 5 and page.count("<svg") == 3
    assert '<img src="examples/best_predictor_1.jpg"' in page
    assert "best: predictor &lt;0.9&gt;" in page
    front, curves, reliability = re.findall(r"<svg.*?</svg>", page, re.S)
    assert "predictor" in front and "grid16" in front and "prompts decoded an image" in front
    for title in ("PQ, %", "mIoU 1:1, %", "total ms", "eliminated, %", "peak MB"):
        assert title in curves
    assert all(f">{text}<" in reliability for text in ("predictor", "grid16", "calibrated"))
