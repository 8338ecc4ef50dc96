"""Giving a bundle another model's prompts: their graph, its options and the weights of scores."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from aopsam_ros.bundle.loading import BUNDLE_FILE, ENCODER, PREDICTOR, Bundle, load_bundle
from aopsam_ros.engines import verification
from aopsam_ros.engines.base import FP16, FP32, EngineOptions
from aopsam_ros.engines.onnxruntime import OnnxRuntimeEngine
from aopsam_ros.errors import BundleError
from aopsam_ros.masks.selection import THRESHOLDS
from aopsam_ros.models.bundle_files import (
    MIXED_SUFFIX,
    SAM_THRESHOLDS,
    describe_graphs,
    new_bundle,
    read_description,
    save_description,
)
from aopsam_ros.models.composed_predictor import compose_predictor
from aopsam_ros.models.mixed_precision import write_mixed

OF_PREDICTOR = "predictor"  # group of defaults: options for masks of a predictor's prompts
# Of a prompter's options, what concerns the host's features instead of the prompter's maps.
_OF_FEATURES = ("filtering", "elimination_")


def add_prompter(host: Bundle, prompter: Bundle, folder: Path) -> None:
    """Write a bundle with the host's graphs, and the prompter's encoder and predictor for prompts.

    Args:
        host: the model that makes masks; a predictor of its own is replaced, and the weights of
            scores, which were fitted to it, are left out. One at SAM's thresholds takes what the
            prompter says under `hosts`: options and weights of scores for masks of its prompts.
        prompter: the model whose prompts it takes.
        folder: made, or the bundle in it replaced, once the new graph has run; untouched before.

    Raises:
        BundleError: if the prompter has no predictor, a graph is missing or altered or cannot be
            composed, or the folder holds something else than a bundle.
        VerificationError: if the graph in mixed precision is too far from the one in 32 bits.
    """
    with new_bundle(folder, host) as work:
        for kind in (host.graphs, host.mixed_graphs, host.int8_graphs):
            if PREDICTOR in kind:
                (work / kind[PREDICTOR].path.name).unlink()
        full, mixed = work / f"{PREDICTOR}.onnx", work / f"{PREDICTOR}{MIXED_SUFFIX}"
        onnx.save(compose_predictor(prompter, host), str(full))
        if host.mixed_graphs:
            write_mixed(full, mixed)
        _describe(host, prompter, work)
        _verify(load_bundle(work))


def _describe(host: Bundle, prompter: Bundle, work: Path) -> None:
    """Write bundle.yaml anew: with the graphs, whose prompts they give, and their options."""
    description = read_description(host)
    for key, suffix in (("graphs", ".onnx"), ("mixed_graphs", MIXED_SUFFIX)):
        if key in description:
            description[key] |= describe_graphs(work, [f"{PREDICTOR}{suffix}"])
    description.get("int8_graphs", {}).pop(PREDICTOR, None)
    description |= {
        "confidence_map_size": prompter.confidence_map_size,
        "predictor_inputs": ["image"],
        "prompter": f"{prompter.name} {prompter.version}",
    }
    suited = _suited(host, prompter)
    _set_options(description, host, prompter, suited)
    provenance = description.get("provenance")
    if isinstance(provenance, dict):  # else it is free text, and stays
        provenance["predictor"] = {
            "prompter": prompter.name,
            "version": prompter.version,
            "licence": prompter.licence,
            **{graph: prompter.graphs[graph].sha256 for graph in (ENCODER, PREDICTOR)},
            **({"asf": suited["asf"]} if suited else {}),
        }
    save_description(work, description)


def _set_options(
    description: dict[str, Any], host: Bundle, prompter: Bundle, suited: dict[str, dict[str, Any]]
) -> None:
    """Set a host's options and weights of scores for a prompter; what others left there goes."""
    maps = {
        name: value
        for name, value in prompter.defaults.get("asf", {}).items()
        if not name.startswith(_OF_FEATURES)
    }
    maps |= suited.get("asf", {})
    defaults = description.setdefault("defaults", {})
    own = dict(host.defaults.get("asf", {}))
    # Options and scores that suit the maps of a predictor do not suit another's.
    replaces = PREDICTOR in host.graphs
    same = prompter.graphs[PREDICTOR].sha256, description["graphs"][PREDICTOR]["sha256"]
    if replaces and host.graphs[PREDICTOR].sha256 not in same:
        description.pop("score_weights", None)
        defaults.pop(OF_PREDICTOR, None)
        own = {n: value for n, value in own.items() if _former(description).get(n) != value}
    defaults["asf"] = {**own, **maps} if replaces else {**maps, **own}
    if suited and "score_weights" not in description:
        description["score_weights"] = suited["score_weights"]
        defaults[OF_PREDICTOR] = {**suited[OF_PREDICTOR], **defaults.get(OF_PREDICTOR, {})}


def _former(description: dict[str, Any]) -> dict[str, Any]:
    """Return the options of `asf` that the prompter before said for its hosts."""
    try:
        return dict(description["provenance"]["predictor"]["asf"])
    except (KeyError, TypeError, ValueError):  # there was none, or provenance is free text
        return {}


def _suited(host: Bundle, prompter: Bundle) -> dict[str, dict[str, Any]]:
    """Return what a prompter says of hosts of SAM's own kind, for one at SAM's thresholds.

    Others had theirs chosen by somebody.
    """
    mask, said = host.defaults.get("mask", {}), read_description(prompter).get("hosts")
    if said is None or tuple(mask.get(name) for name in THRESHOLDS[:2]) != SAM_THRESHOLDS:
        return {}
    parts = ("asf", OF_PREDICTOR, "score_weights")
    if not (isinstance(said, dict) and all(isinstance(said.get(part), dict) for part in parts)):
        raise BundleError(f"{prompter.folder / BUNDLE_FILE}: hosts must have {', '.join(parts)}")
    return said


def _verify(bundle: Bundle) -> None:
    """Run the predictor; in mixed precision, too, where the bundle has it so."""
    maps = _predict(bundle)
    if bundle.mixed_graphs:
        graphs = {**bundle.graphs, PREDICTOR: bundle.mixed_graphs[PREDICTOR]}
        verification.compare(
            f"{PREDICTOR} in {FP16}", _predict(replace(bundle, graphs=graphs)), maps
        )


def _predict(bundle: Bundle) -> dict[str, NDArray[np.float32]]:
    """Return the maps of an image that looks like one, checked."""
    engine = OnnxRuntimeEngine(bundle, EngineOptions(precision=FP32))
    samples = verification.sample_inputs(bundle)
    image = samples[ENCODER][0]["image"]
    return engine.predict(image, engine.encode(image)).maps()
