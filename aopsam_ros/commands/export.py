"""`aopsam export`: checkpoints of nano, or of SAM's family, in; a model bundle out."""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aopsam_ros.bundle.loading import DEFAULT_GROUPS, load_bundle
from aopsam_ros.commands.arguments import (
    INSTALL_TRAINING,
    add_prompter_argument,
    load_prompter,
    refuse_given,
    require,
)
from aopsam_ros.commands.training.frozen_models import adapted_model, mobile_sam_model, nano_model
from aopsam_ros.errors import InputError, OptionError
from aopsam_ros.models.adapters.table import ARCHITECTURES
from aopsam_ros.options import name_in_group, parse
from aopsam_ros.user_folders import user_data
from aopsam_ros.weights.known import KNOWN

if TYPE_CHECKING:
    from aopsam_ros.models.frozen import Defaults, FrozenModel
    from aopsam_ros.models.prompt_predictor import PromptPredictor

# Model, predictor, and what the predictor's checkpoint says of its training.
Source = tuple["FrozenModel", "PromptPredictor | None", dict[str, Any]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--segmenter", type=Path, help="segmenter.pt of `aopsam train-segmenter`")
    source.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="the authors' file, or the name of one that `aopsam models fetch` stored",
    )
    parser.add_argument(
        "--average",
        nargs="+",
        action="extend",
        default=[],
        type=Path,
        metavar="MODEL",
        help="export the mean weights of --segmenter and of these, runs that it went on from or"
        " that went on from it: their segmenter.pt or bundles",
    )
    parser.add_argument(
        "--architecture",
        choices=["mobile_sam", *ARCHITECTURES],
        help="of --checkpoint FILE (a fetched one's: its name; else mobile_sam); all but mobile_sam"
        " need their authors' code: docs/models.md",
    )
    parser.add_argument(
        "--source",
        type=Path,
        metavar="DIR",
        help="checkout of the authors' repository, where their code is not a package; it is run",
    )
    parser.add_argument(
        "--predictor",
        type=Path,
        help="predictor.pt of `aopsam train-predictor`, trained for this model, in place of nano's"
        " own or another model's",
    )
    add_prompter_argument(parser)
    parser.add_argument(
        "--attention",
        type=_layer_and_head,
        metavar="LAYER,HEAD",
        help="let the encoder give this attention over the whole image, which the prompt source"
        " clusters then takes in place of the embedding",
    )
    parser.add_argument(
        "--mixed",
        action="store_true",
        help="also write graphs in mixed 16 and 32 bit precision, for engines that take the"
        " precision from the graph (TensorRT 11)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="the bundle's folder (the user's own, where the architecture's name finds it)",
    )
    parser.add_argument("--name", help="of the model (the folder's)")
    parser.add_argument("--version", default="0.1.0", help="of the model (%(default)s)")
    parser.add_argument(
        "--licence", help="of the weights (those published for the architecture: theirs)"
    )
    parser.add_argument(
        "--defaults",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="options that suit this model: asf.NAME, mask.NAME, and for what one prompt source"
        " takes in place of mask.NAME: predictor.NAME, grid.NAME, boxes.NAME, box_centres.NAME,"
        " clusters.NAME",
    )


def run(arguments: argparse.Namespace) -> None:
    """Export, compare every graph with torch, and check the bundle by loading it."""
    defaults = _parse_defaults(arguments.defaults)
    require(("onnx", "torch"), "exporting needs PyTorch and onnx", INSTALL_TRAINING)
    from aopsam_ros.models.bundle_files import new_bundle
    from aopsam_ros.models.prompter import add_prompter
    from aopsam_ros.training.loop.trainer import summarise_run

    out = _target(arguments)
    model, predictor, trained = _load(arguments)
    has_own = predictor is not None or model.parts.predictor is not None
    if has_own:
        why = "goes with a model without a predictor of its own"
        refuse_given(arguments, add_prompter_argument, ["prompter"], why)
    prompter = None if has_own else load_prompter(arguments)
    provenance = {**model.provenance}
    if trained:
        provenance["predictor"] = summarise_run(trained)
    facts = {
        "name": arguments.name or out.resolve().name,
        "version": arguments.version,
        "licence": arguments.licence or _licence(arguments),
        "defaults": _merge_defaults(model.defaults, defaults),
        "provenance": provenance,
    }
    if arguments.attention is not None:
        from aopsam_ros.models.adapters.attention import with_attention

        model = replace(model, parts=with_attention(model.parts, *arguments.attention))
    with new_bundle(out) as work:
        report = model.export(work, predictor, facts, arguments.mixed)
        exported = load_bundle(work)
        del model, predictor  # a large one's gigabytes: the graphs are loaded next
        if prompter is not None:
            add_prompter(exported, prompter, work)
    for name, difference in report.differences.items():
        print(f"{name}: differs from torch by at most {difference:.1e}")
    for name, cosine in report.cosines.items():
        least = math.floor(cosine * 1e6) / 1e6  # not rounded up: it is a bound
        print(f"{name} in mixed precision: cosine with 32 bits at least {least:.6f}")
    if prompter is not None:
        print(f"prompt_predictor: that of {prompter.name} {prompter.version}")
    print(out)


def _layer_and_head(text: str) -> tuple[int, int]:
    numbers = text.split(",")
    if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
        raise argparse.ArgumentTypeError(f"'{text}' is not LAYER,HEAD, two whole numbers")
    return int(numbers[0]), int(numbers[1])


def _target(arguments: argparse.Namespace) -> Path:
    """Return the folder to write: what the user gave, or where names are looked up."""
    if arguments.out is not None:
        return Path(arguments.out)
    name = arguments.name or arguments.architecture
    name = name or (arguments.checkpoint if arguments.checkpoint in KNOWN else None)
    if name is None:
        raise OptionError("say where to: --out FOLDER")
    folder = user_data("bundles") / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    return folder


def _load(arguments: argparse.Namespace) -> Source:
    """Load the model and its predictor, which must be trained on the model's embeddings."""
    from aopsam_ros.models.checkpoints import load_checkpoint
    from aopsam_ros.models.loading import load_predictor

    if arguments.average and arguments.segmenter is None:
        raise OptionError("--average goes with --segmenter")
    file, architecture = arguments.predictor, _architecture(arguments)
    if architecture in ARCHITECTURES:
        model = adapted_model(architecture, arguments.checkpoint, arguments.source)
    elif arguments.checkpoint is None:
        model = nano_model(arguments.segmenter, arguments.average)
    else:  # at the size that the predictor was trained for
        options = load_checkpoint(file).get("options", {}) if file else {}
        model = mobile_sam_model(arguments.checkpoint, options.get("image_size"))
    if file is None:
        return model, None, {}
    predictor, trained = load_predictor(file, model.embedding_channels)
    key = model.encoder_key()
    if trained.get("encoder", key) != key:
        raise InputError(f"{file}: trained for another model than this one")
    return model, predictor, trained


def _architecture(arguments: argparse.Namespace) -> str | None:
    """Return the architecture that was given, or that of the named weights; None: not said."""
    given: str | None = arguments.architecture
    if given is not None and arguments.checkpoint is None:
        raise OptionError("--architecture goes with --checkpoint")
    chosen = given or (arguments.checkpoint if arguments.checkpoint in ARCHITECTURES else None)
    if arguments.source is not None and chosen not in ARCHITECTURES:
        raise OptionError("--source goes with --architecture, and not with mobile_sam")
    return chosen


def _licence(arguments: argparse.Namespace) -> str:
    """Return the licence of the weights published for the architecture."""
    architecture = ARCHITECTURES.get(_architecture(arguments) or "")
    return architecture.licence if architecture is not None else "Apache-2.0"


def _merge_defaults(own: Defaults, given: Defaults) -> dict[str, dict[str, object]]:
    """Merge options; those that the user gave replace the model's own defaults."""
    return {
        group: {**own.get(group, {}), **given.get(group, {})}
        for group in DEFAULT_GROUPS
        if group in own or group in given
    }


def _parse_defaults(words: list[str]) -> dict[str, dict[str, object]]:
    """Parse words `group.name=value` into typed options by group."""
    groups: dict[str, dict[str, object]] = {}
    for word in words:
        name, separator, value = word.partition("=")
        group, _, option = name.partition(".")
        if not separator or group not in DEFAULT_GROUPS:
            known = ", ".join(f"{group}.NAME" for group in DEFAULT_GROUPS)
            raise OptionError(f"{word}: --defaults takes NAME=VALUE, with names {known}")
        groups.setdefault(group, {})[option] = parse(name_in_group(group, option), value)
    return groups
