"""`aopsam evaluate`: figures on labelled images."""

import argparse
import json
import math
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from aopsam_ros.commands.arguments import (
    INSTALL_EVALUATION,
    add_data_arguments,
    add_model_arguments,
    engine_options,
    make_folder,
    open_boxes,
    open_datasets,
    parse_settings,
    refuse_given,
    require,
)
from aopsam_ros.data.labelled_images import InstanceDataset
from aopsam_ros.errors import DatasetError, OptionError
from aopsam_ros.evaluation.configurations import PARTS
from aopsam_ros.evaluation.ground_truth_prompts import (
    KINDS,
    evaluate_prompts,
    mean_prompted,
    parse_kind,
)
from aopsam_ros.evaluation.images import choose_images, find_boxes, read_images
from aopsam_ros.evaluation.results import ALL, Evaluation
from aopsam_ros.evaluation.tasks import (
    TASKS,
    evaluate_edges,
    evaluate_proposals,
    evaluate_salient,
)
from aopsam_ros.images.files import write_bytes
from aopsam_ros.labels.label_set import LabelOptions
from aopsam_ros.prompting.sources import AUTO, KNOWN
from aopsam_ros.segmentation.segmenter import Segmenter

GROUND_TRUTH = "ground-truth"
# Of the options that not every kind of measurement takes, those that each takes.
TAKEN = {
    "": ("prompts", "set", "boxes", "boxes_ms", "parts", "stream"),
    "--points": ("points", "seed"),
    "--classes": ("classes", "merge_affinity", "prompts", "set", "boxes"),
    "--task edges": ("prompts", "set", "boxes"),
    "--task salient": ("prompts", "set", "boxes", "salient_count"),
    "--task proposals": ("prompts", "set", "boxes"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_data_arguments(parser)
    add_model_arguments(parser)
    parser.add_argument(
        "--task",
        choices=TASKS,
        default=TASKS[0],
        help="instances; edges, against the boundaries of regions; salient, the union of the most"
        " salient masks against everything that is labelled; or proposals, average recall in the"
        " order of ~/detections (%(default)s; proposals need pycocotools)",
    )
    parser.add_argument(
        "--salient-count", type=int, default=1, metavar="N", help="masks in it (%(default)s)"
    )
    parser.add_argument(
        "--points",
        metavar="KIND",
        help="measure the promptable model with prompts made from the ground truth, instead of the"
        f" pipeline: {KINDS}, N corrective clicks after the first",
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
        help="of a report, separated by commas (%(default)s); the last two are about the source"
        " clusters, all others but sources about predictor",
    )
    parser.add_argument(
        "--boxes-ms",
        type=float,
        default=0.0,
        help="milliseconds the detector took for an image, added to the latencies of its boxes",
    )
    parser.add_argument(
        "--stream",
        action="store_true",
        help="each data set is a stream of frames: measure flicker, too",
    )
    parser.add_argument(
        "--classes",
        metavar="LABELS",
        help="measure labels by class, with and without uniting the masks of one thing, on data"
        " with classes: a label set's folder, a .npz of text embeddings, or"
        f" {GROUND_TRUTH}, where each mask gets the class of the instance it lies in (needs"
        " pycocotools)",
    )
    parser.add_argument(
        "--merge-affinity",
        type=float,
        default=LabelOptions.merge_affinity,
        help="of --classes: from which masks are united, labels.merge_affinity (%(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of random points (%(default)s)")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for results.json, results.csv, report.html and report.md (needs matplotlib and"
        " pycocotools), where an interrupted run goes on; of --points, --classes and --task for one"
        " JSON file, written at the end",
    )


def run(arguments: argparse.Namespace) -> None:
    """Measure and print one line a data set and one over all images."""
    _check_options(arguments)
    if arguments.out is not None:
        make_folder(arguments.out)
    if arguments.task != TASKS[0]:
        _evaluate_task(arguments)
    elif arguments.points:
        _evaluate_prompts(arguments)
    elif arguments.classes:
        _evaluate_classes(arguments)
    else:
        _evaluate_pipeline(arguments)


def _check_options(arguments: argparse.Namespace) -> None:
    """Refuse options that would have no effect on what is measured, and wrong numbers."""
    kind = f"--task {arguments.task}" if arguments.task != TASKS[0] else ""
    kind = kind or ("--points" if arguments.points else "--classes" if arguments.classes else "")
    others = {name for names in TAKEN.values() for name in names}.difference(TAKEN[kind])
    why = f"has no effect with {kind}" if kind else "has no effect on instances"
    refuse_given(arguments, add_arguments, others, why)
    if arguments.out is None:
        refuse_given(arguments, add_arguments, ["parts"], "goes with --out")
    if not 0 < arguments.merge_affinity <= 1:
        raise OptionError("--merge-affinity must be above 0, at most 1")
    if arguments.salient_count < 1:
        raise OptionError("--salient-count must be 1 or more")
    if not 0 <= arguments.boxes_ms < math.inf:
        raise OptionError("--boxes-ms must be 0 or more, and finite")
    if arguments.boxes is None:
        refuse_given(arguments, add_arguments, ["boxes_ms"], "goes with --boxes")
    if arguments.seed < 0:
        raise OptionError("--seed must be 0 or more")


def _open_rows(arguments: argparse.Namespace) -> list[InstanceDataset]:
    """Open data sets that have a row each, beside that of all of them."""
    datasets = open_datasets(arguments)
    if len(datasets) > 1 and any(dataset.name == ALL for dataset in datasets):
        raise DatasetError(f"a data set is called {ALL}, as the row of all together: rename it")
    return datasets


def _evaluate_prompts(arguments: argparse.Namespace) -> None:
    parse_kind(arguments.points)
    rng = np.random.default_rng(arguments.seed)
    by_set: dict[str, list[dict[str, Any]]] = {}
    datasets, engine = _open_rows(arguments), engine_options(arguments)
    with (
        Segmenter.from_bundle(arguments.model, "grid1", engine) as segmenter,
        closing(read_images(datasets, arguments.limit, "evaluate")) as images,
    ):
        for image in images:
            figures = evaluate_prompts(segmenter, image, arguments.points, rng)
            by_set.setdefault(image.dataset.name, []).append(figures)
    by_set[ALL] = [figures for some in by_set.values() for figures in some]
    rows = {name: mean_prompted(some) for name, some in by_set.items()}
    clicks = "".join(f" {f'click {i + 1}':>8}" for i in range(len(rows[ALL]["after_click"])))
    print(f"{'data set':20} {'best of 3':>10} {'chosen':>10} {'instances':>10}{clicks}")
    for name, row in rows.items():
        clicks = "".join(f" {iou:8.3f}" for iou in row["after_click"])
        print(f"{name:20} {row['best']:10.3f} {row['chosen']:10.3f} {row['instances']:10d}{clicks}")
    _write(arguments.out, "points.json", rows)


def _evaluate_classes(arguments: argparse.Namespace) -> None:
    from aopsam_ros.evaluation.classes import MEASURES, ClassEvaluation, mean_over_classes
    from aopsam_ros.labels.labeller import Labeller

    require(("pycocotools",), "--classes needs pycocotools", INSTALL_EVALUATION)
    engine, settings = engine_options(arguments), parse_settings(arguments.set)
    boxes = open_boxes(arguments.boxes, [arguments.prompts])
    chosen = list(choose_images(open_datasets(arguments), arguments.limit))
    folder = None if arguments.classes == GROUND_TRUTH else Path(arguments.classes)
    if folder is not None and not folder.exists():
        raise DatasetError(f"{folder}: no such label set")
    with ExitStack() as opened:
        segmenter = Segmenter.from_bundle(arguments.model, arguments.prompts, engine)
        opened.enter_context(segmenter)
        segmenter.options = segmenter.options.updated(settings)
        labeller = None
        if folder is not None:
            labeller = opened.enter_context(closing(Labeller(segmenter, engine, folder)))
        evaluation = ClassEvaluation(segmenter, labeller, arguments.merge_affinity)
        for dataset, index in tqdm(chosen, unit="image", desc="evaluate", file=sys.stderr):
            image = dataset.read(index)
            evaluation.add(image, find_boxes(boxes, dataset, index))
    rows = {name: figures.by_class() for name, figures in evaluation.figures.items()}
    if not any(rows.values()):
        raise DatasetError("no instance of at least 0.1 % of an image has a class")
    print(f"{'':12}" + "".join(f" {key:>8}" for key in (*MEASURES, "masks")))
    for name, by_class in rows.items():
        means = mean_over_classes(by_class)
        print(f"{name:12}" + "".join(f" {means[key]:8.3f}" for key in MEASURES), end="")
        print(f" {evaluation.figures[name].masks:8d}")
    _write(arguments.out, "classes.json", rows)


def _evaluate_task(arguments: argparse.Namespace) -> None:
    if arguments.task == "proposals":
        require(("pycocotools",), "--task proposals needs pycocotools", INSTALL_EVALUATION)
    engine, settings = engine_options(arguments), parse_settings(arguments.set)
    datasets, sources = open_datasets(arguments), arguments.prompts.split(",")
    boxes = open_boxes(arguments.boxes, sources)
    rows: dict[str, dict[str, dict[str, float]]] = {}  # by prompt source and data set
    for source in sources:
        with Segmenter.from_bundle(arguments.model, source, engine) as segmenter:
            segmenter.options = segmenter.options.updated(settings)
            given = boxes if segmenter.source.needs_boxes else None
            rows[source] = own = {}
            for dataset in datasets:
                name = dataset.name
                word = f"{source} {name}"
                with closing(read_images([dataset], arguments.limit, word)) as images:
                    if arguments.task == "edges":
                        own[name] = evaluate_edges(segmenter, images, given)
                    elif arguments.task == "proposals":
                        own[name] = evaluate_proposals(segmenter, images, given)
                    else:
                        count = arguments.salient_count
                        own[name] = evaluate_salient(segmenter, images, count, given)
                figures = " ".join(f"{key} {value:.3f}" for key, value in own[name].items())
                print(f"{source:12} {name:20} {figures}")
    _write(arguments.out, f"{arguments.task}.json", rows)


def _write(folder: Path | None, name: str, rows: object) -> None:
    """Write what was measured, where a folder is wanted; `run` has made it."""
    if folder is not None:
        write_bytes(folder / name, (json.dumps(rows, indent=1) + "\n").encode())


def _evaluate_pipeline(arguments: argparse.Namespace) -> None:
    from aopsam_ros.evaluation.evaluator import Evaluator
    from aopsam_ros.evaluation.report import write_report

    if arguments.out or arguments.stream:
        packages = ("matplotlib", "pycocotools")
        require(packages, "a report needs matplotlib and pycocotools", INSTALL_EVALUATION)
    sources = arguments.prompts.split(",")
    evaluator = Evaluator(
        model=arguments.model,
        engine=engine_options(arguments),
        datasets=_open_rows(arguments),
        limit=arguments.limit,
        sources=sources,
        parts=arguments.parts.split(",") if arguments.out else ["sources"],
        settings=parse_settings(arguments.set),
        boxes=open_boxes(arguments.boxes, sources),
        detector_ms=arguments.boxes_ms,
        is_stream=arguments.stream,
        out=arguments.out,
    )
    with closing(evaluator):
        evaluation = evaluator.run()
        _print(evaluation, is_stream=arguments.stream)
        if arguments.out:
            write_report(evaluator, evaluation, arguments.out)
            print(arguments.out / "report.html")


def _print(evaluation: Evaluation, *, is_stream: bool) -> None:
    columns = {
        "PQ": "pq", "AR@100": "ar_100", "1-to-1": "one_to_one", "closest": "closest",
        "copies": "near_copies", "masks": "masks", "decoded": "prompts_decoded", "ms": "total_ms",
    }  # fmt: skip
    if is_stream:
        columns["flicker"] = "flicker"
    decimals = {"masks": 1, "prompts_decoded": 1, "total_ms": 0}
    print(f"{'prompts':12} {'data set':20}" + "".join(f" {title:>8}" for title in columns))
    for outcome in evaluation.part("sources"):
        for data, figures in outcome.figures.items():
            print(f"{outcome.configuration.title:12} {data:20}", end="")
            for name in columns.values():
                value = figures[name]
                cell = "-" if value is None else f"{value:.{decimals.get(name, 3)}f}"
                print(f" {cell:>8}", end="")
            print()
