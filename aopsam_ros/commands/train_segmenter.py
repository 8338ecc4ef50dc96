"""`aopsam train-segmenter`: labelled images in, a promptable segmenter out."""

import argparse
from pathlib import Path

from aopsam_ros.commands.training.data import (
    add_options,
    add_training_arguments,
    open_training_data,
    prepare_torch,
    read_options,
    weighted_paths,
)
from aopsam_ros.training.options import SegmenterTrainingOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_training_arguments(parser)
    parser.add_argument(
        "--pretrained",
        type=Path,
        metavar="FILE",
        help="ImageNet weights of the backbone, Google's names (none: from nothing)",
    )
    parser.add_argument(
        "--start",
        type=Path,
        metavar="FILE",
        help="begin with the weights of this segmenter.pt, or of this bundle of nano",
    )
    add_options(parser, SegmenterTrainingOptions)


def run(arguments: argparse.Namespace) -> None:
    """Train, or go on where a run in `--out` stopped."""
    prepare_torch(arguments.threads)
    from aopsam_ros.models.loading import load_weights
    from aopsam_ros.training.segmenter_training import SegmenterTrainer

    options = read_options(arguments, SegmenterTrainingOptions)
    paths = weighted_paths(arguments)
    training, held = open_training_data(paths, arguments.held_out)
    start = None if arguments.start is None else load_weights(arguments.start)
    trainer = SegmenterTrainer(options, training, arguments.out, arguments.pretrained, held, start)
    trainer.resume()
    trainer.run()
    print(f"{arguments.out / 'segmenter.pt'}: {trainer.step} steps, {trainer.images} views")
