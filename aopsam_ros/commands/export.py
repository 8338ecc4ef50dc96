"""`aopsam export`: checkpoints of nano or MobileSAM in, a model bundle out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aopsam_ros.errors import EngineError, OptionError
from aopsam_ros.options import name_in_group, parse
from aopsam_ros.runtime.bundle import DEFAULT_GROUPS
from aopsam_ros.user_folders import user_data
from aopsam_ros.weights.fetching import resolve_checkpoint
from aopsam_ros.weights.identity import digests_of
from aopsam_ros.weights.known import KNOWN

if TYPE_CHECKING:
    from aopsam_ros.models.export import BundleParts

Defaults = dict[str, dict[str, object]]
# Modules, provenance, and the model's own default options.
Source = tuple["BundleParts", dict[str, Any], Defaults]

# SAM's own, for its automatic mask generator. They are not measured with this checkpoint here.
_SAM_THRESHOLDS: dict[str, object] = {"predicted_iou_threshold": 0.88, "stability_threshold": 0.95}
MOBILE_SAM_DEFAULTS: Defaults = {"mask": _SAM_THRESHOLDS, "grid": _SAM_THRESHOLDS}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--segmenter", type=Path, help="segmenter.pt of `aopsam train-segmenter`")
    source.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="mobile_sam.pt, or mobile_sam for the one that `aopsam models fetch` stored",
    )
    parser.add_argument(
        "--predictor",
        type=Path,
        help="predictor.pt of `aopsam train-predictor`, trained for this model; a bundle of"
        " MobileSAM may do without, and takes its prompts from elsewhere",
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
        help="the bundle's folder (for mobile_sam: the user's own, where it is found by name)",
    )
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
    defaults = _defaults(arguments.defaults)
    _require_torch()
    from aopsam_ros.models.export import export_bundle
    from aopsam_ros.runtime.bundle import load_bundle

    out = _target(arguments)
    parts, provenance, own_defaults = (
        _nano(arguments) if arguments.checkpoint is None else _mobile_sam(arguments)
    )
    facts = {
        "name": arguments.name or out.resolve().name,
        "version": arguments.version,
        "licence": arguments.licence,
        "defaults": _merged(own_defaults, defaults),
        "provenance": provenance,
    }
    comparison = export_bundle(parts, out, facts, arguments.mixed)
    load_bundle(out)
    for name, difference in comparison.differences.items():
        print(f"{name}: differs from torch by at most {difference:.1e}")
    for name, cosine in comparison.cosines.items():
        print(f"{name} in mixed precision: cosine with 32 bits at least {cosine:.6f}")
    print(out)
    return 0


def _target(arguments: argparse.Namespace) -> Path:
    """Return the folder to write: what the user gave, or where names are looked up.

    Raises:
        OptionError: if neither tells.
    """
    if arguments.out is not None:
        return Path(arguments.out)
    name = arguments.name or (arguments.checkpoint if arguments.checkpoint in KNOWN else None)
    if name is None:
        raise OptionError("say where to: --out FOLDER")
    folder = user_data("bundles") / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    return folder


def _require_torch() -> None:
    try:
        import onnx  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise EngineError(
            f"exporting needs PyTorch and onnx ({error}): `make setup EXTRAS=train` or"
            " `pip install .[train]`"
        ) from error


def _nano(arguments: argparse.Namespace) -> Source:
    from aopsam_ros.models.export import nano_parts
    from aopsam_ros.models.loading import load_predictor, load_segmenter

    if arguments.predictor is None:
        raise OptionError("--segmenter needs --predictor")
    segmenter, segmenter_facts = load_segmenter(arguments.segmenter)
    predictor, predictor_facts = load_predictor(arguments.predictor)
    provenance = {
        "segmenter": _provenance(segmenter_facts),
        "predictor": _provenance(predictor_facts),
    }
    size = segmenter_facts["options"]["image_size"]
    return nano_parts(segmenter, predictor, size), provenance, {}


def _mobile_sam(arguments: argparse.Namespace) -> Source:
    from aopsam_ros.models.export import mobile_sam_parts
    from aopsam_ros.models.loading import load_mobile_sam, load_predictor
    from aopsam_ros.models.mobile_sam import EMBEDDING_CHANNELS

    checkpoint = resolve_checkpoint(arguments.checkpoint)
    model = load_mobile_sam(checkpoint)
    provenance: dict[str, Any] = {"checkpoint": _identity(checkpoint)}
    predictor = None
    if arguments.predictor is not None:
        predictor, predictor_facts = load_predictor(arguments.predictor, EMBEDDING_CHANNELS)
        provenance["predictor"] = _provenance(predictor_facts)
    return mobile_sam_parts(model, predictor), provenance, MOBILE_SAM_DEFAULTS


def _identity(checkpoint: Path) -> dict[str, str]:
    """Say which file this was, and whether it is the published one."""
    found = digests_of(checkpoint)
    published = found.git_blob == KNOWN["mobile_sam"].git_blob
    origin = "as published by its authors" if published else "not the published file"
    return {"file": checkpoint.name, "sha256": found.sha256, "origin": origin}


def _merged(own: Defaults, given: Defaults) -> Defaults:
    """Let what the user gave go before the model's own defaults, option by option."""
    return {
        group: {**own.get(group, {}), **given.get(group, {})}
        for group in DEFAULT_GROUPS
        if group in own or group in given
    }


def _defaults(words: list[str]) -> Defaults:
    """Sort `group.name=value` into groups, with the values' own types."""
    groups: Defaults = {}
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
