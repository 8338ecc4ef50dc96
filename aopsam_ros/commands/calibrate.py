"""`aopsam calibrate`: fit a bundle's scores on labelled photographs."""

from __future__ import annotations

import argparse
import contextlib
from dataclasses import asdict
from pathlib import Path

from aopsam_ros.bundle.loading import load_bundle
from aopsam_ros.commands.arguments import (
    add_data_arguments,
    add_engine_arguments,
    engine_options,
    open_datasets,
)
from aopsam_ros.evaluation.images import read_images
from aopsam_ros.models.bundle_files import change_description
from aopsam_ros.segmentation.segmenter import Segmenter
from aopsam_ros.tuning.score_calibration import calibrate


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("model", type=Path, help="the bundle's folder; its bundle.yaml is changed")
    add_data_arguments(parser)
    add_engine_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Fit the weights, write them into bundle.yaml, and say how scores rank before and after."""
    model: Path = arguments.model
    # A folder here goes before a name: `nano` is the built-in bundle's, which would be changed.
    bundle = load_bundle(model.absolute() if model.is_dir() else model)
    datasets, engine = open_datasets(arguments), engine_options(arguments)
    with (
        Segmenter.from_bundle(bundle.folder, "predictor", engine) as segmenter,
        contextlib.closing(read_images(datasets, arguments.limit, "calibrate")) as images,
    ):
        found = calibrate(segmenter, images)
    weights = asdict(found.weights)
    change_description(bundle.folder, {"score_weights": weights})
    print(f"{found.masks} masks of {found.photographs} images; rank correlation with their IoU:")
    print(f"predicted IoU {found.before:.3f}, score {found.after:.3f}")
    for name, weight in weights.items():
        print(f"  {name}: {weight:g}")
