"""`aopsam evaluate`: figures on labelled photographs."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from aopsam_ros.commands.measuring import (
    add_measuring_arguments,
    model_choice,
    open_boxes,
    open_datasets,
    settings,
)
from aopsam_ros.errors import DatasetError
from aopsam_ros.evaluation import points
from aopsam_ros.evaluation.configurations import PARTS, Configuration
from aopsam_ros.evaluation.results import Evaluation, Outcome
from aopsam_ros.images.files import write_bytes
from aopsam_ros.prompting.choosing import AUTO
from aopsam_ros.prompting.sources import KNOWN


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_measuring_arguments(parser)
    parser.add_argument(
        "--points",
        choices=("centre", "random"),
        help="measure the promptable model with one point a mask, instead of the pipeline",
    )
    parser.add_argument(
        "--prompts",
        default=AUTO,
        metavar="SOURCES",
        help=f"separated by commas: {AUTO}, {KNOWN} (%(default)s)",
    )
    parser.add_argument(
        "--parts",
        default=",".join(PARTS),
        help="of a report, separated by commas (%(default)s); all but sources are about the source"
        " predictor",
    )
    parser.add_argument(
        "--boxes-ms",
        type=float,
        default=0.0,
        help="milliseconds the detector took for a picture, added to the latencies of its boxes",
    )
    parser.add_argument("--seed", type=int, default=0, help="of random points (%(default)s)")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for results.json, results.csv, report.html and report.md (needs matplotlib and"
        " pycocotools); an interrupted run goes on there",
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure and print one line a data set and one over all images.

    Raises:
        AopsamError: if a data set, the model or an option is wrong.
    """
    if arguments.points:
        _points(arguments)
    else:
        _automatic(arguments)
    return 0


def _points(arguments: argparse.Namespace) -> None:
    from aopsam_ros.evaluation.photographs import choose
    from aopsam_ros.evaluation.progress import progress

    rng = np.random.default_rng(arguments.seed)
    by_set: dict[str, list[points.PointResult]] = {}
    chosen = choose(open_datasets(arguments), arguments.limit)
    with model_choice(arguments).segmenter("grid1") as segmenter:
        for dataset, index in progress(chosen, "image"):
            image = dataset.read(index)
            result = points.evaluate_points(segmenter, image, arguments.points, rng)
            if result is not None:
                by_set.setdefault(dataset.name, []).append(result)
    results = [result for some in by_set.values() for result in some]
    if not results:
        raise DatasetError("no image has an instance of at least 0.1 % of its area")
    rows = {name: points.mean(some) for name, some in by_set.items()} | {
        "all": points.mean(results)
    }
    print(f"{'data set':20} {'best of 3':>10} {'chosen':>10} {'instances':>10}")
    for name, row in rows.items():
        print(f"{name:20} {row.best:10.3f} {row.chosen:10.3f} {row.instances:10d}")
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        figures = {name: asdict(row) for name, row in rows.items()}
        _write(arguments.out / "points.json", json.dumps(figures, indent=1) + "\n")


def _automatic(arguments: argparse.Namespace) -> None:
    from aopsam_ros.evaluation.comparison import Comparison

    comparison = Comparison(
        choice=model_choice(arguments),
        datasets=open_datasets(arguments),
        limit=arguments.limit,
        sources=arguments.prompts.split(","),
        parts=arguments.parts.split(",") if arguments.out else ["sources"],
        settings=settings(arguments),
        boxes=open_boxes(arguments.boxes, arguments.prompts.split(",")),
        detector_ms=arguments.boxes_ms,
        out=arguments.out,
    )
    with comparison:
        evaluation = comparison.run()
        _print(evaluation)
        if arguments.out:
            comparison.write_report(evaluation)
            print(arguments.out / "report.html")


def _print(evaluation: Evaluation) -> None:
    print(
        f"{'prompts':12} {'data set':20} {'1-to-1':>8} {'closest':>8} {'masks':>7} {'calls':>7}"
        f" {'ms':>7}"
    )
    for outcome in evaluation.part("sources"):
        _print_rows(outcome.configuration, outcome)


def _print_rows(what: Configuration, outcome: Outcome) -> None:
    for name, row in outcome.rows.items():
        print(
            f"{what.title:12} {name:20} {row.one_to_one:8.3f} {row.closest:8.3f} {row.masks:7.1f}"
            f" {row.decoder_calls:7.1f} {row.total_ms:7.0f}"
        )


def _write(path: Path, text: str) -> None:
    write_bytes(path, text.encode())
