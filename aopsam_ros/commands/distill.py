"""`aopsam distill`: a bundle and unlabelled images in, a bundle with a small encoder out."""

from __future__ import annotations

import argparse
import functools
from pathlib import Path
from typing import TYPE_CHECKING

from aopsam_ros.bundle.loading import load_bundle
from aopsam_ros.commands.training.data import (
    add_options,
    add_training_arguments,
    describe_figures,
    prepare_torch,
    read_options,
    weighted_paths,
)
from aopsam_ros.commands.training.self_labelling import add_frame_arguments
from aopsam_ros.data.recordings import open_frames
from aopsam_ros.engines.base import FP32, EngineOptions
from aopsam_ros.training.options import DistillationOptions

if TYPE_CHECKING:
    from aopsam_ros.training.distillation import DistillationTrainer, Teacher
    from aopsam_ros.training.loop.trainer import TrainingData

BUNDLE = "bundle"  # the folder of a run's result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--teacher", required=True, metavar="BUNDLE", help="name or folder of the model to imitate"
    )
    parser.add_argument(
        "--start",
        type=Path,
        metavar="FILE",
        help="weights that the student begins with: nano's segmenter.pt or bundle, MobileSAM's"
        " checkpoint (random ones)",
    )
    add_training_arguments(
        parser,
        "images without labels: folders of them, videos, or recordings (rosbag2 folders, .mcap,"
        " .db3)",
    )
    add_options(parser, DistillationOptions)
    add_frame_arguments(parser)
    parser.add_argument(
        "--engine", default="auto", help="engine that runs the teacher (%(default)s)"
    )


def run(arguments: argparse.Namespace) -> None:
    """Encode, train, or go on where a run in `--out` stopped, and write a bundle."""
    paths = weighted_paths(arguments)
    prepare_torch(arguments.threads)
    from aopsam_ros.models.bundle_files import check_target
    from aopsam_ros.training.distillation import DistillationTrainer, Teacher
    from aopsam_ros.training.loop import processes

    options = read_options(arguments, DistillationOptions)
    # In 32 bits: a teacher in 8 or 16 would pass its rounding on.
    engine = EngineOptions(engine=arguments.engine, precision=FP32, threads=arguments.threads)
    teacher = Teacher(load_bundle(arguments.teacher), engine)
    check_target(arguments.out / BUNDLE)
    trainer = DistillationTrainer(options, teacher, arguments.out, arguments.start)
    trainer.resume()
    figures = trainer.train(_data(arguments, paths, teacher, options))
    print(f"{arguments.out / trainer.checkpoint}: {trainer.step} steps{describe_figures(figures)}")
    if processes.is_first():
        _export(trainer, options, teacher, arguments.out / BUNDLE)


def _data(
    arguments: argparse.Namespace,
    paths: list[tuple[str, float]],
    teacher: Teacher,
    options: DistillationOptions,
) -> TrainingData:
    """Encode what is not encoded yet, and split."""
    from aopsam_ros.training.batches import describe_data, hold_out
    from aopsam_ros.training.distillation import (
        EMBEDDINGS,
        DistillationBatches,
        encode_frames,
        measure_frames,
    )
    from aopsam_ros.training.loop.trainer import TrainingData
    from aopsam_ros.training.predictor_validation import validation_images
    from aopsam_ros.training.prepared_images import EmbeddingCache

    out, bundle = arguments.out, teacher.bundle
    sources = [(open_frames(p, arguments.topic, arguments.every), w) for p, w in paths]
    _, channels, height, width = bundle.embedding_shape
    cache = EmbeddingCache(out / EMBEDDINGS, teacher.key(), (channels, height, width))
    try:
        frames = [(encode_frames(source, teacher, out, cache), w) for source, w in sources]
    finally:
        teacher.close()
    training, held = hold_out(frames, arguments.held_out)
    count = sum(len(part.indices) for part in training)
    print(f"{count} images to train on, {sum(len(part.indices) for part in held)} held out")
    held_out = validation_images(
        [part.dataset.images[index] for part in held for index in part.indices]
    )
    return TrainingData(
        functools.partial(DistillationBatches, training, cache, bundle, options.batch_size),
        describe_data(training),
        functools.partial(measure_frames, held_out, cache, bundle),
    )


def _export(
    trainer: DistillationTrainer, options: DistillationOptions, teacher: Teacher, folder: Path
) -> None:
    from aopsam_ros.training.loop.trainer import summarise_run
    from aopsam_ros.training.students import write_student

    provenance = summarise_run(trainer.state())
    write_student(trainer.model, options.student, teacher.bundle, folder, provenance)
    print(f"{folder}: ready, as in `aopsam segment photo.jpg --model {folder}`")
