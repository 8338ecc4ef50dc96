"""Arguments that several commands share: the model and its engine, boxes, options, data sets."""

from __future__ import annotations

import argparse
import importlib
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aopsam_ros.bundle.loading import PREDICTOR, Bundle, load_bundle
from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.errors import BundleError, DatasetError, EngineError, InputError, OptionError
from aopsam_ros.options import parse
from aopsam_ros.prompting.box_file import BoxFile
from aopsam_ros.prompting.sources import needs_boxes

if TYPE_CHECKING:
    from aopsam_ros.data.labelled_images import InstanceDataset

NO_PROMPTER = "none"
MOST_THREADS = 256
INSTALL_TRAINING = "`make setup EXTRAS=train` or `pip install .[train]`"
INSTALL_EVALUATION = "`make setup EXTRAS=evaluate` or `pip install .[evaluate]`"


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `--model`, `--engine`, `--precision`, `--threads`, `--boxes` and `--set`."""
    parser.add_argument("--model", default="nano", help="bundle's name or folder (%(default)s)")
    add_engine_arguments(parser)
    parser.add_argument(
        "--boxes",
        type=Path,
        metavar="FILE",
        help="a detector's boxes for the sources boxes and box_centres: JSON, an image's name to a"
        " list of [left, top, right, bottom, confidence]",
    )
    add_settings_argument(parser, "set options")


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `--engine`, `--precision` and `--threads`."""
    parser.add_argument("--engine", default="auto", help="engine that runs it (%(default)s)")
    parser.add_argument(
        "--precision",
        default="auto",
        help="auto, fp32, fp16 (on a GPU or in OpenVINO), int8 (encoder and predictor, in ONNX"
        " Runtime on a CPU; auto takes it where that is faster) (%(default)s)",
    )
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of the engine (0: all)")


def check_threads(threads: int) -> None:
    """Refuse what the node refuses: engines start every thread that is asked for."""
    if not 0 <= threads <= MOST_THREADS:
        raise OptionError(f"--threads must be from 0 to {MOST_THREADS}")


def add_settings_argument(parser: argparse._ActionsContainer, text: str) -> None:
    """Declare `--set`, with its help."""
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="NAME=VALUE", help=text
    )


def engine_options(arguments: argparse.Namespace) -> EngineOptions:
    """Read `--engine`, `--precision` and `--threads`.

    Raises:
        OptionError: if the number of threads cannot be.
    """
    check_threads(arguments.threads)
    names = ("engine", "precision", "threads")
    return EngineOptions(**{name: getattr(arguments, name) for name in names})


def open_boxes(file: Path | None, sources: Sequence[str]) -> BoxFile | None:
    """Read the file of `--boxes`, if one of the prompt sources takes boxes.

    Raises:
        OptionError: if a source is unknown, needs boxes and no file is given, or none needs them.
        InputError: if the file cannot be used.
    """
    needing = [name for name in sources if needs_boxes(name)]
    if not needing and file is not None:
        raise OptionError("--boxes goes with --prompts boxes or box_centres")
    if not needing:
        return None
    if file is None:
        raise OptionError(f"--prompts {needing[0]} needs --boxes FILE")
    return BoxFile(file)


def parse_settings(words: Sequence[str]) -> dict[str, object]:
    """Read the words of `--set`.

    Raises:
        OptionError: if a word has no "=", or the option is unknown or out of range.
    """
    pairs = [word.partition("=") for word in words]
    if any(not separator for _, separator, _ in pairs):
        raise OptionError("--set takes NAME=VALUE")
    return {name: parse(name, value) for name, _, value in pairs}


def add_prompter_argument(parser: argparse.ArgumentParser) -> None:
    """Declare `--prompter`."""
    parser.add_argument(
        "--prompter",
        default="nano",
        help="bundle whose prompts a model without a predictor takes: its encoder and predictor are"
        f" composed into one graph; {NO_PROMPTER}: prompts of grids, boxes and clusters only"
        " (%(default)s)",
    )


def load_prompter(arguments: argparse.Namespace) -> Bundle | None:
    """Load the bundle that `--prompter` names, if any.

    Raises:
        BundleError: if there is none of that name, it is malformed, or has no predictor.
    """
    if arguments.prompter == NO_PROMPTER:
        return None
    prompter = load_bundle(arguments.prompter)
    if PREDICTOR not in prompter.graphs:  # said now, not once the host's bundle is written
        raise BundleError(f"--prompter {arguments.prompter}: has no prompt predictor")
    return prompter


def refuse_given(
    arguments: argparse.Namespace,
    declare: Callable[[argparse.ArgumentParser], None],
    names: Iterable[str],
    why: str,
) -> None:
    """Refuse options that were given but would have no effect.

    `declare` declares them, with their defaults; `names` have underscores; `why` completes the
    sentence that starts with the option.

    Raises:
        OptionError: if one is not at its default.
    """
    parser = argparse.ArgumentParser()
    declare(parser)
    for name in sorted(names):
        if getattr(arguments, name) != parser.get_default(name):
            raise OptionError(f"--{name.replace('_', '-')} {why}")


def require(modules: Sequence[str], needs: str, remedy: str) -> None:
    """Import what only some commands need.

    Raises:
        EngineError: if one cannot be imported; the message names need and remedy.
    """
    try:
        for module in modules:
            importlib.import_module(module)
    except ImportError as error:
        raise EngineError(f"{needs} ({error}): {remedy}") from error


def make_folder(folder: Path) -> None:
    """Make a folder for results, before the work that they are of.

    Raises:
        InputError: if it cannot be made, or takes no files.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror}") from None


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `--data` and `--limit`."""
    parser.add_argument(
        "--data",
        nargs="+",
        required=True,
        metavar="DIR",
        help="label-map folders, COCO JSON files, PASCAL VOC or SA-1B folders",
    )
    parser.add_argument(
        "--limit", type=int, default=0, help="images of each data set, spread evenly (0: all)"
    )


def open_datasets(arguments: argparse.Namespace) -> list[InstanceDataset]:
    """Open the data sets.

    Raises:
        DatasetError: if one cannot be read, or two have one name.
        OptionError: if the limit is negative.
    """
    from aopsam_ros.data.datasets import open_dataset

    if arguments.limit < 0:
        raise OptionError("--limit must be 0 or more")
    datasets = [open_dataset(path) for path in arguments.data]
    names = [dataset.name for dataset in datasets]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DatasetError(f"two data sets are called {twice[0]}")
    return datasets
