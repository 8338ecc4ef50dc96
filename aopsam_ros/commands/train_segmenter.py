"""`aopsam train-segmenter`: labelled images in, a promptable segmenter out."""

import argparse
import dataclasses
from pathlib import Path

from aopsam_ros.commands.training.data import (
    add_training_arguments,
    open_training_data,
    prepare_torch,
    weighted_paths,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_training_arguments(parser)
    parser.add_argument(
        "--views",
        type=int,
        default=200_000,
        help="how many views to train on in all; a run can be prolonged (%(default)s)",
    )
    parser.add_argument(
        "--backbone",
        default="lite0",
        choices=["lite0", "lite2"],
        help="EfficientNet-Lite of this size (%(default)s)",
    )
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
    parser.add_argument(
        "--image-size", type=int, default=512, help="of the encoder, pixels (%(default)s)"
    )
    parser.add_argument(
        "--canvas", type=int, default=384, help="of the crops trained on first (%(default)s)"
    )
    parser.add_argument(
        "--full-share",
        type=float,
        default=0.2,
        help="last share of the views, trained at the image size (%(default)s)",
    )
    parser.add_argument(
        "--decay-share",
        type=float,
        default=0.3,
        help="last share of the views, in which the learning rate falls (%(default)s)",
    )
    parser.add_argument(
        "--surfaces",
        type=float,
        default=0.25,
        help="how often a view asks for unlabelled regions of one colour, too (%(default)s)",
    )
    parser.add_argument("--batch-size", type=int, default=8, help="images a step (%(default)s)")
    parser.add_argument(
        "--learning-rate",
        type=float,
        default=1e-3,
        help="peak, of all but the backbone; half of it from trained weights (%(default)s)",
    )
    parser.add_argument(
        "--backbone-rate",
        type=float,
        default=2.5e-4,
        help="peak, of the pretrained backbone, likewise (%(default)s)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Train, or go on where a run in `--out` stopped."""
    prepare_torch(arguments.threads)
    from aopsam_ros.models.loading import load_weights
    from aopsam_ros.training.segmenter_training import SegmenterTrainer, SegmenterTrainingOptions

    names = [field.name for field in dataclasses.fields(SegmenterTrainingOptions)]
    given = {name: getattr(arguments, name) for name in names if hasattr(arguments, name)}
    options = SegmenterTrainingOptions(**given)
    paths = weighted_paths(arguments)
    training, held = open_training_data(paths, arguments.held_out)
    start = None if arguments.start is None else load_weights(arguments.start)
    trainer = SegmenterTrainer(options, training, arguments.out, arguments.pretrained, held, start)
    if trainer.resume():
        print(f"resumed at step {trainer.step}, {trainer.seconds / 60:.1f} minutes")
    trainer.run()
    print(f"{arguments.out / 'segmenter.pt'}: {trainer.step} steps, {trainer.images} views")
