"""`aopsam export`: checkpoints in, a model bundle out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from aopsam_ros.commands.training_data import prepare_torch
from aopsam_ros.errors import OptionError
from aopsam_ros.options import name_in_group, parse
from aopsam_ros.runtime.bundle import DEFAULT_GROUPS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--segmenter", type=Path, required=True, help="segmenter.pt of `aopsam train-segmenter`"
    )
    parser.add_argument(
        "--predictor", type=Path, required=True, help="predictor.pt of `aopsam train-predictor`"
    )
    parser.add_argument("--out", type=Path, required=True, help="the bundle's folder")
    parser.add_argument("--name", help="of the model (the folder's)")
    parser.add_argument("--version", default="0.1.0", help="of the model (%(default)s)")
    parser.add_argument("--licence", default="Apache-2.0", help="of the weights (%(default)s)")
    parser.add_argument(
        "--defaults",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="options that suit this model: asf.NAME, mask.NAME, and for what one prompt source"
        " takes in place of mask.NAME: grid.NAME, boxes.NAME, box_centres.NAME, clusters.NAME",
    )


def run(arguments: argparse.Namespace) -> int:
    """Export, compare every graph with torch, and check the bundle by loading it.

    Raises:
        AopsamError: if a checkpoint or an option is wrong, a graph differs, or torch is missing.
    """
    prepare_torch(1)
    from aopsam_ros.models.export import export_nano
    from aopsam_ros.models.loading import load_predictor, load_segmenter
    from aopsam_ros.runtime.bundle import load_bundle

    segmenter, segmenter_facts = load_segmenter(arguments.segmenter)
    predictor, predictor_facts = load_predictor(arguments.predictor)
    facts = {
        "name": arguments.name or arguments.out.resolve().name,
        "version": arguments.version,
        "licence": arguments.licence,
        "defaults": _defaults(arguments.defaults),
        "provenance": {
            "segmenter": _provenance(segmenter_facts),
            "predictor": _provenance(predictor_facts),
        },
    }
    differences = export_nano(
        segmenter.encoder,
        segmenter.decoder,
        predictor,
        arguments.out,
        facts,
        segmenter_facts["options"]["image_size"],
    )
    load_bundle(arguments.out)
    for name, difference in differences.items():
        print(f"{name}: differs from torch by at most {difference:.1e}")
    print(arguments.out)
    return 0


def _defaults(words: list[str]) -> dict[str, dict[str, object]]:
    """Sort `group.name=value` into groups, with the values' own types."""
    groups: dict[str, dict[str, object]] = {}
    for word in words:
        name, separator, value = word.partition("=")
        group, _, option = name.partition(".")
        if not separator or group not in DEFAULT_GROUPS:
            known = ", ".join(f"{group}.NAME" for group in DEFAULT_GROUPS)
            raise OptionError(f"{word}: --defaults takes NAME=VALUE, with names {known}")
        groups.setdefault(group, {})[option] = parse(name_in_group(group, option), value)
    return groups


def _provenance(facts: dict[str, Any]) -> dict[str, Any]:
    """Pick what a user wants to know of a training run."""
    options = facts["options"]
    told: dict[str, Any] = {
        "minutes": round(facts["seconds"] / 60, 1),
        "steps": facts["step"],
        "images": facts["step"] * options["batch_size"],
        "seed": options["seed"],
    }
    return told | {key: facts[key] for key in ("backbone", "machine", "data") if facts.get(key)}
