"""Loading the frozen models of `export` and `train-predictor` from what users name.

A checkpoint is a file, or the name of weights that were fetched: WeightsError, if they are not
there or not what they were; InputError, if there is no such file or it holds other tensors.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aopsam_ros.errors import InputError, WeightsError
from aopsam_ros.models.adapters.table import ARCHITECTURES
from aopsam_ros.weights.fetching import check_file, file_sha256, resolve_checkpoint
from aopsam_ros.weights.known import KNOWN

if TYPE_CHECKING:
    from aopsam_ros.models.frozen import FrozenModel

MOBILE_SAM = "mobile_sam"


def nano_model(segmenter: Path, others: Sequence[Path] = ()) -> FrozenModel:
    """Read `segmenter.pt` of `aopsam train-segmenter`; the mean weights of it and of `others`."""
    from aopsam_ros.models.export import nano_parts
    from aopsam_ros.models.frozen import FrozenModel
    from aopsam_ros.models.loading import load_averaged_segmenter
    from aopsam_ros.models.nano import EMBEDDING_CHANNELS
    from aopsam_ros.models.stored_weights import round_weights
    from aopsam_ros.training.loop.trainer import summarise_run

    model, facts = load_averaged_segmenter(segmenter, others)
    names = [other.name if other.is_dir() else other.parent.name for other in others]
    averaged = {"averaged_with": names} if others else {}
    try:
        size, training = facts["options"]["image_size"], summarise_run(facts)
    except (KeyError, TypeError) as error:
        raise InputError(f"{segmenter}: does not say how it was trained ({error})") from error
    round_weights(model)
    return FrozenModel(
        name="nano",
        parts=nano_parts(model, model.predictor, size),
        embedding_channels=EMBEDDING_CHANNELS,
        provenance={"segmenter": training | averaged},
    )


def mobile_sam_model(checkpoint: str, image_size: int | None = None) -> FrozenModel:
    """Read MobileSAM's checkpoint, for this side of the encoder's square; None: as trained."""
    from aopsam_ros.models.export import mobile_sam_parts
    from aopsam_ros.models.frozen import FrozenModel
    from aopsam_ros.models.loading import load_mobile_sam
    from aopsam_ros.models.mobile_sam.model import IMAGE_SIZE
    from aopsam_ros.models.mobile_sam.tiny_vit import EMBEDDING_CHANNELS

    path = resolve_checkpoint(checkpoint)
    model = load_mobile_sam(path, image_size or IMAGE_SIZE)
    return FrozenModel(
        name=MOBILE_SAM,
        parts=mobile_sam_parts(model),
        embedding_channels=EMBEDDING_CHANNELS,
        provenance={"checkpoint": _identity(path, MOBILE_SAM)},
    )


def adapted_model(name: str, checkpoint: str, source: Path | None) -> FrozenModel:
    """Read a checkpoint of another model of `ARCHITECTURES`, with its authors' code.

    `source` is a checkout of their repository; None: their package is installed.

    Raises:
        InputError: if the checkout is wrong.
        EngineError: if the authors' code cannot be imported.
    """
    from aopsam_ros.models.frozen import FrozenModel

    architecture = ARCHITECTURES[name]
    if architecture.needs_source and source is None:
        raise InputError(f"{name} needs its authors' code: --source, {architecture.code}")
    path = resolve_checkpoint(checkpoint)
    module, _, adapter = architecture.adapter.partition(".")
    adapters = importlib.import_module(f"aopsam_ros.models.adapters.{module}")
    parts = getattr(adapters, adapter)(architecture, path, source)
    return FrozenModel(
        name=name,
        parts=parts,
        embedding_channels=parts.similarity_channels,
        provenance={"architecture": name, "checkpoint": _identity(path, name)},
    )


def _identity(checkpoint: Path, name: str) -> dict[str, str]:
    """Describe the file for bundle.yaml, and whether it is the published one."""
    origin = "not the published file"
    if name in KNOWN:
        with contextlib.suppress(WeightsError):
            check_file(KNOWN[name], checkpoint)
            origin = "as published by its authors"
    return {"file": checkpoint.name, "sha256": file_sha256(checkpoint), "origin": origin}
