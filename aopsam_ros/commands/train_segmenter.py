"""`aopsam train-segmenter`: labelled images in, a promptable segmenter out."""

from __future__ import annotations

import argparse
from pathlib import Path

from aopsam_ros.commands.training_data import (
    add_training_arguments,
    open_training_data,
    prepare_torch,
    weighted_paths,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_training_arguments(parser, minutes=60.0)
    parser.add_argument(
        "--backbone",
        type=Path,
        help="ImageNet weights of MobileNetV2, torchvision's names (none: from nothing)",
    )
    parser.add_argument(
        "--encoder", type=Path, help="begin with the encoder of this segmenter.pt of a former run"
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
        default=0.35,
        help="last share of the time, trained at the image size (%(default)s)",
    )
    parser.add_argument("--batch-size", type=int, default=8, help="images a step (%(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Train, or go on where a run in `--out` stopped.

    Raises:
        AopsamError: if a data set, an option or a checkpoint is wrong, or torch is missing.
    """
    prepare_torch(arguments.threads)
    from aopsam_ros.training.segmenter_training import SegmenterTrainer, SegmenterTrainingOptions

    options = SegmenterTrainingOptions(
        minutes=arguments.minutes,
        image_size=arguments.image_size,
        canvas=arguments.canvas,
        full_share=arguments.full_share,
        batch_size=arguments.batch_size,
        seed=arguments.seed,
    )
    paths = weighted_paths(arguments)
    training, held = open_training_data(paths, arguments.held_out)
    trainer = SegmenterTrainer(
        options, training, arguments.out, arguments.backbone, held, arguments.encoder
    )
    if trainer.resume():
        print(f"resumed at step {trainer.step}, {trainer.seconds / 60:.1f} minutes")
    trainer.run()
    print(f"{arguments.out / 'segmenter.pt'}: {trainer.step} steps, {trainer.images} images")
    return 0
