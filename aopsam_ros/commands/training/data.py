"""The arguments that both training commands share: data sets, their weights and the split."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from aopsam_ros.commands.arguments import INSTALL_TRAINING, check_threads, require
from aopsam_ros.errors import OptionError
from aopsam_ros.training.options import RunOptions

if TYPE_CHECKING:
    from aopsam_ros.training.batches import WeightedDataset

Options = TypeVar("Options", bound=RunOptions)
LABELLED = (
    "label-map folders, COCO JSON files, PASCAL VOC or SA-1B folders, or SA-1B's tar files,"
    " streamed (sa_{000000..000999}.tar)"
)


def add_training_arguments(parser: argparse.ArgumentParser, data: str = LABELLED) -> None:
    """Declare `--data`, of this kind, and what the training commands share beside it."""
    parser.add_argument(
        "--data",
        nargs="+",
        required=True,
        metavar="DIR[=WEIGHT]",
        help=f"{data}; an image of a set of weight 2 is seen twice as often (1)",
    )
    parser.add_argument(
        "--held-out",
        type=float,
        default=0.02,
        metavar="SHARE",
        help="share of each data set that validates instead (%(default)s)",
    )
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of torch (0: its own)")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder for checkpoints and log; a run found there is resumed",
    )


def add_options(parser: argparse.ArgumentParser, options: type[RunOptions]) -> None:
    """Declare an argument for each of the options that have a help text."""
    for field in dataclasses.fields(options):
        if field.metadata:
            parser.add_argument(
                f"--{field.name.replace('_', '-')}",
                type=type(field.default),
                default=field.default,
                choices=field.metadata["choices"],
                help=f"{field.metadata['help']} (%(default)s)",
            )


def read_options(
    arguments: argparse.Namespace,
    options: type[Options],
    **others: Any,  # noqa: ANN401  (of the options' own types)
) -> Options:
    """Return the options that were given, with those that are no arguments.

    Raises:
        OptionError: if one is out of range.
    """
    names = [field.name for field in dataclasses.fields(options) if field.metadata]
    return options(**{name: getattr(arguments, name) for name in names}, **others)


def prepare_torch(threads: int) -> None:
    """Check what training needs; set threads and allocator; join torchrun's other processes.

    Raises:
        EngineError: if something is not installed, or the processes cannot meet.
        OptionError: if the number of threads cannot be.
    """
    # scikit-image is needed later, in another process, and onnx once the training is over.
    modules = ("onnx", "skimage", "torch")
    require(modules, "training needs PyTorch, onnx and scikit-image", INSTALL_TRAINING)
    import torch

    from aopsam_ros.training.loop import processes
    from aopsam_ros.training.loop.loader import keep_step_memory

    check_threads(threads)
    if threads:
        torch.set_num_threads(threads)
    keep_step_memory()
    processes.join()


def weighted_paths(arguments: argparse.Namespace) -> list[tuple[str, float]]:
    """Read `--data` as paths with weights; check `--held-out` and `--loaders`.

    Raises:
        OptionError: if a weight, the share or the number is out of range.
    """
    if arguments.loaders < 1:
        raise OptionError("--loaders must be at least 1")
    if not 0 <= arguments.held_out < 1:
        raise OptionError("--held-out must be at least 0 and below 1")
    return [_weighted(word) for word in arguments.data]


def open_training_data(
    pairs: list[tuple[str, float]], held_out: float
) -> tuple[list[WeightedDataset], list[WeightedDataset]]:
    """Open data sets, each with its weight, and split them into training and held-out parts.

    Raises:
        DatasetError: if a data set cannot be read, or nothing is left to train on.
    """
    from aopsam_ros.data.datasets import open_dataset
    from aopsam_ros.data.shards import Sa1bShards, is_shard
    from aopsam_ros.training.batches import hold_out

    sets = [(Sa1bShards(p) if is_shard(p) else open_dataset(p), w) for p, w in pairs]
    training, held = hold_out(sets, held_out)
    count = sum(len(part.indices) for part in training)
    print(f"{count} images to train on, {sum(len(p.indices) for p in held)} held out")
    return training, held


def describe_figures(figures: Mapping[str, float]) -> str:
    """Return the last figures of a training for the user."""
    words = {
        "loss": "loss {:.4f}",
        "held_out_loss": "held out {:.4f}",
        "held_out_recall": "{:.0%} of held-out masks hit",
        "held_out_prompts": "{:.1f} prompts an image",
        "held_out_cosine": "cosine {:.3f} with the teacher",
    }
    return "".join(
        f", {text.format(figures[name])}" for name, text in words.items() if name in figures
    )


def _weighted(word: str) -> tuple[str, float]:
    """Split `DIR=2.5`; a path that exists as a whole may hold a "=" itself."""
    path, separator, number = word.rpartition("=")
    if not separator or Path(word).exists():
        return word, 1.0
    try:
        weight = float(number)
    except ValueError:
        return word, 1.0
    if not 0 < weight < float("inf"):
        raise OptionError(f"{word}: a weight must be above 0")
    return path, weight
