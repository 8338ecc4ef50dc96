"""`aopsam evaluate`: figures on labelled photographs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from aopsam_ros.errors import DatasetError, OptionError
from aopsam_ros.evaluation import automatic, points
from aopsam_ros.options import parse
from aopsam_ros.segmenter import Segmenter
from aopsam_ros.training.datasets import LabelledImage, open_dataset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--data", nargs="+", required=True, metavar="DIR", help="data sets")
    parser.add_argument("--model", default="nano", help="bundle's name or folder (%(default)s)")
    parser.add_argument("--engine", default="auto", help="engine that runs it (%(default)s)")
    parser.add_argument(
        "--points",
        choices=("centre", "random"),
        help="measure the promptable model with one point a mask, instead of the pipeline",
    )
    parser.add_argument("--prompts", default="predictor", help="sources, separated by commas")
    parser.add_argument("--limit", type=int, default=0, help="images of each data set (0: all)")
    parser.add_argument("--seed", type=int, default=0, help="of random points (%(default)s)")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="NAME=VALUE", help="set options"
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure and print one line a data set and one over all images.

    Raises:
        AopsamError: if a data set, the model or an option is wrong.
    """
    measure = _points if arguments.points else _automatic
    figures = measure(arguments)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


def _images(arguments: argparse.Namespace) -> Iterator[tuple[str, LabelledImage]]:
    datasets = [open_dataset(path) for path in arguments.data]
    chosen = [
        (dataset, index)
        for dataset in datasets
        for index in range(min(len(dataset), arguments.limit or len(dataset)))
    ]
    for dataset, index in tqdm(chosen, unit="image", desc="evaluate", file=sys.stderr):
        yield dataset.name, dataset.read(index)


def _points(arguments: argparse.Namespace) -> dict:
    rng = np.random.default_rng(arguments.seed)
    by_set: dict[str, list[points.PointResult]] = {}
    with Segmenter.from_bundle(arguments.model, arguments.engine, "grid1") as segmenter:
        for name, image in _images(arguments):
            result = points.evaluate_points(segmenter, image, arguments.points, rng)
            if result is not None:
                by_set.setdefault(name, []).append(result)
    rows = {name: points.mean(results) for name, results in by_set.items()}
    rows["all"] = points.mean(_all(by_set))
    print(f"{'data set':20} {'best of 3':>10} {'chosen':>10} {'instances':>10}")
    for name, row in rows.items():
        print(f"{name:20} {row.best:10.3f} {row.chosen:10.3f} {row.instances:10d}")
    return {name: asdict(row) for name, row in rows.items()}


def _automatic(arguments: argparse.Namespace) -> dict:
    figures = {}
    print(
        f"{'prompts':12} {'data set':20} {'1-to-1':>8} {'closest':>8} {'masks':>7} {'calls':>7}"
        f" {'ms':>7}"
    )
    for source in arguments.prompts.split(","):
        rows = _automatic_rows(arguments, source)
        for name, row in rows.items():
            print(
                f"{source:12} {name:20} {row.one_to_one:8.3f} {row.closest:8.3f} {row.masks:7.1f}"
                f" {row.decoder_calls:7.1f} {row.total_ms:7.0f}"
            )
        figures[source] = {name: asdict(row) for name, row in rows.items()}
    return figures


def _automatic_rows(
    arguments: argparse.Namespace, source: str
) -> dict[str, automatic.AutomaticResult]:
    by_set: dict[str, list[automatic.AutomaticResult]] = {}
    with Segmenter.from_bundle(arguments.model, arguments.engine, source) as segmenter:
        segmenter.options = segmenter.options.updated(_settings(arguments.set))
        for name, image in _images(arguments):
            result = automatic.evaluate_automatic(segmenter, image)
            if result is not None:
                by_set.setdefault(name, []).append(result)
    rows = {name: automatic.mean(results) for name, results in by_set.items()}
    rows["all"] = automatic.mean(_all(by_set))
    return rows


def _all(by_set: dict[str, list]) -> list:
    results = [result for results in by_set.values() for result in results]
    if not results:
        raise DatasetError("no image has an instance of at least 0.1 % of its area")
    return results


def _settings(words: list[str]) -> dict[str, object]:
    pairs = [word.partition("=") for word in words]
    if any(not separator for _, separator, _ in pairs):
        raise OptionError("--set takes NAME=VALUE")
    return {name: parse(name, value) for name, _, value in pairs}
