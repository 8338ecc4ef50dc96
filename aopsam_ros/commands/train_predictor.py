"""`aopsam train-predictor`: labelled photographs and a segmenter in, its Prompt Predictor out."""

from __future__ import annotations

import argparse
from pathlib import Path

from aopsam_ros.commands.training_data import (
    add_training_arguments,
    open_training_data,
    prepare_torch,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_training_arguments(parser, minutes=15.0)
    parser.add_argument(
        "--segmenter", type=Path, required=True, help="segmenter.pt of `aopsam train-segmenter`"
    )
    parser.add_argument("--batch-size", type=int, default=8, help="images a step (%(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Train, or go on where a run in `--out` stopped.

    Raises:
        AopsamError: if a data set, an option or a checkpoint is wrong, or torch is missing.
    """
    prepare_torch(arguments.threads)
    from aopsam_ros.models.loading import load_segmenter
    from aopsam_ros.models.nano import EMBEDDING_CHANNELS
    from aopsam_ros.training.predictor_training import PredictorTrainer, PredictorTrainingOptions

    segmenter, facts = load_segmenter(arguments.segmenter)
    options = PredictorTrainingOptions(
        minutes=arguments.minutes,
        image_size=facts["options"]["image_size"],
        batch_size=arguments.batch_size,
        seed=arguments.seed,
    )
    training, held = open_training_data(arguments)
    trainer = PredictorTrainer(
        options, segmenter.encoder, EMBEDDING_CHANNELS, training, arguments.out, held
    )
    if trainer.resume():
        print(f"resumed at step {trainer.step}, {trainer.seconds / 60:.1f} minutes")
    trainer.run()
    print(f"{arguments.out / 'predictor.pt'}: {trainer.step} steps")
    return 0
