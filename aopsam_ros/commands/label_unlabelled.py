"""`aopsam label-unlabelled`: labelled images in, the same with the model's surest masks beside."""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from aopsam_ros.commands.arguments import (
    INSTALL_TRAINING,
    add_data_arguments,
    add_engine_arguments,
    add_settings_argument,
    engine_options,
    open_datasets,
    parse_settings,
    require,
)
from aopsam_ros.errors import AopsamError, OptionError
from aopsam_ros.prompting.sources import AUTO, KNOWN
from aopsam_ros.segmentation.segmenter import Segmenter


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_data_arguments(parser)
    parser.add_argument(
        "--held-out",
        type=float,
        default=0.02,
        metavar="SHARE",
        help="as the training's; what it holds out is left out here (%(default)s)",
    )
    parser.add_argument("--model", default="nano", help="bundle's name or folder (%(default)s)")
    parser.add_argument(
        "--prompts",
        default=AUTO,
        metavar="SOURCE",
        help=f"where prompts come from: {AUTO}, {KNOWN} (%(default)s)",
    )
    parser.add_argument(
        "--views",
        type=int,
        choices=(1, 2, 3),
        default=3,
        help="a mask has to be found in so many: the image, mirrored, and smaller (%(default)s); 1 "
        "for a large model, whose thresholds (--set) say enough",
    )
    add_engine_arguments(parser)
    add_settings_argument(parser, "options, such as mask.score_threshold")
    parser.add_argument(
        "--out", type=Path, required=True, help="data set to make; one found there is continued"
    )


def run(arguments: argparse.Namespace) -> None:
    """Label; an image that cannot be read does not stop the others."""
    require(("pycocotools", "torch"), "labels for training need", INSTALL_TRAINING)
    from aopsam_ros.evaluation.images import spread
    from aopsam_ros.training.batches import hold_out
    from aopsam_ros.training.data_engine import SETTINGS, DataEngine

    if not 0 <= arguments.held_out < 1:
        raise OptionError("--held-out must be at least 0 and below 1")
    settings = SETTINGS | parse_settings(arguments.set)
    training, _ = hold_out([(d, 1.0) for d in open_datasets(arguments)], arguments.held_out)
    chosen = [(d.dataset, i) for d in training for i in spread(d.indices, arguments.limit)]
    with Segmenter.from_bundle(
        arguments.model, arguments.prompts, engine_options(arguments)
    ) as segmenter:
        segmenter.options = segmenter.options.updated(settings)
        engine = DataEngine(segmenter, arguments.out, arguments.views)
        for dataset, index in tqdm(chosen, unit="image", file=sys.stderr):
            try:
                engine.add(dataset, index)
            except AopsamError as error:
                place = f"{dataset.name}, image {index}"
                tqdm.write(f"aopsam: error: {place}: {error}", file=sys.stderr)
    found: dict[str, list[int]] = {}
    for row in engine.rows():
        found.setdefault(row["source"], []).append(int(row["new"]))
    for name, new in found.items():
        print(f"{name}: {sum(new)} new masks on {sum(map(bool, new))} of {len(new)} images")
