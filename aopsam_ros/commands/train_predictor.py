"""`aopsam train-predictor`: images and a promptable model in, its Prompt Predictor out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from aopsam_ros.commands.arguments import refuse_given
from aopsam_ros.commands.segmenting.over_ray import run_over_ray
from aopsam_ros.commands.training.data import (
    add_options,
    add_training_arguments,
    describe_figures,
    open_training_data,
    prepare_torch,
    read_options,
    weighted_paths,
)
from aopsam_ros.commands.training.frozen_models import MOBILE_SAM, mobile_sam_model, nano_model
from aopsam_ros.commands.training.self_labelling import (
    add_self_label_arguments,
    label_all,
    num_frame_parts,
)
from aopsam_ros.errors import OptionError
from aopsam_ros.training.options import PredictorTrainingOptions

if TYPE_CHECKING:
    from aopsam_ros.models.frozen import FrozenModel
    from aopsam_ros.training.loop.trainer import TrainingData
    from aopsam_ros.training.predictor_training import PredictorTrainer

BUNDLE = "bundle"  # the folder of a run's result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--model", choices=[MOBILE_SAM], help="the model to train for")
    model.add_argument(
        "--segmenter", type=Path, help="or a model of your own: segmenter.pt of train-segmenter"
    )
    parser.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="of --model (the one that `aopsam models fetch` stored)",
    )
    parser.add_argument(
        "--image-size",
        type=int,
        help="of --model's encoder, pixels (1024, which the published weights are for)",
    )
    add_training_arguments(parser)
    add_options(parser, PredictorTrainingOptions)
    parser.add_argument(
        "--no-flips",
        action="store_true",
        help="with --model, leave out mirror images: half the encoding, half the disk space",
    )
    add_self_label_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Train, or go on where a run in `--out` stopped, and write a bundle."""
    paths = weighted_paths(arguments)
    prepare_torch(arguments.threads)
    from aopsam_ros.models.bundle_files import check_target
    from aopsam_ros.training.frozen_engine import FrozenEngine
    from aopsam_ros.training.loop import processes
    from aopsam_ros.training.predictor_training import PredictorTrainer

    if not arguments.self_label:
        names = ("grid", "every", "topic", "shard", "ray", "set")
        refuse_given(arguments, add_self_label_arguments, names, "goes with --self-label")
    if arguments.ray and processes.is_first():
        # Each part is this command with a --shard; what it labelled is found below.
        code = run_over_ray(run, arguments, num_frame_parts(arguments, paths))
        if code:
            return code
    processes.wait()
    model = _model(arguments)
    if arguments.shard is not None:
        with FrozenEngine(model, arguments.out, arguments.threads) as engine:
            label_all(arguments, paths, engine)
        return 0
    size = model.parts.image_size
    options = read_options(arguments, PredictorTrainingOptions, image_size=size)
    check_target(arguments.out / BUNDLE)
    trainer = PredictorTrainer(options, model, arguments.out)
    trainer.resume()
    figures = trainer.train(_data(arguments, paths, model, options))
    print(f"{arguments.out / 'predictor.pt'}: {trainer.step} steps{describe_figures(figures)}")
    if processes.is_first():
        _export(trainer, model, arguments.out / BUNDLE)
    return 0


def _model(arguments: argparse.Namespace) -> FrozenModel:
    if arguments.model is not None:
        size = arguments.image_size
        if size is not None and (size % 16 or not 64 <= size <= 2048):
            raise OptionError("--image-size must be a multiple of 16 between 64 and 2048")
        return mobile_sam_model(arguments.checkpoint or MOBILE_SAM, size)
    if arguments.checkpoint or arguments.image_size or arguments.no_flips:
        raise OptionError("--checkpoint, --image-size and --no-flips go with --model")
    return nano_model(arguments.segmenter)


def _data(
    arguments: argparse.Namespace,
    paths: list[tuple[str, float]],
    model: FrozenModel,
    options: PredictorTrainingOptions,
) -> TrainingData:
    """Label, split and, for a slow encoder, encode."""
    from aopsam_ros.training.frozen_engine import FrozenEngine
    from aopsam_ros.training.predictor_data import encoded_beforehand, encoded_on_the_fly

    out = arguments.out
    with FrozenEngine(model, out, arguments.threads) as engine:
        if arguments.self_label:
            paths = label_all(arguments, paths, engine)
        training, held = open_training_data(paths, arguments.held_out)
        if arguments.model is None:
            return encoded_on_the_fly(training, held, options, out)
        flips = not arguments.no_flips
        return encoded_beforehand(training, held, options, out, engine, flips)


def _export(trainer: PredictorTrainer, model: FrozenModel, folder: Path) -> None:
    """Write the bundle of model and predictor, and check that it loads."""
    from aopsam_ros.bundle.loading import load_bundle
    from aopsam_ros.training.loop.trainer import summarise_run

    provenance = {**model.provenance, "predictor": summarise_run(trainer.state())}
    model.export(folder, trainer.model.eval(), {"provenance": provenance})
    load_bundle(folder)
    print(f"{folder}: ready, as in `aopsam segment photo.jpg --model {folder}`")
