"""A bundle's graphs, checked and compiled by OpenVINO in one precision."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from aopsam_ros.bundle.loading import DECODER, ENCODER, FRAME_PART, PREDICTOR, Bundle
from aopsam_ros.bundle.signatures import Shapes, Signature, check_open_sides, signature_of
from aopsam_ros.bundle.split_signature import SplitSignature, check_split
from aopsam_ros.engines.openvino.api import OpenVino, reason
from aopsam_ros.engines.openvino.graph import Graph, SizedGraph, described, read_model, reshape
from aopsam_ros.errors import EngineError

_TAKE_IMAGES = (ENCODER, PREDICTOR, FRAME_PART)


class Loaded(NamedTuple):
    """Compiled graphs by name, the signatures of whole ones, and how a decoder's parts fit."""

    graphs: Mapping[str, Graph | SizedGraph]
    signatures: Mapping[str, Signature]
    split: SplitSignature | None


def load_all(openvino: OpenVino, bundle: Bundle, precision: str) -> Loaded:
    """Load what a bundle needs: the decoder in parts where the bundle has it so.

    Args, Raises: as of `load_graphs`.
    """
    names = [*bundle.graphs, *bundle.split_graphs]
    if bundle.split_graphs:
        names.remove(DECODER)
    return load_graphs(openvino, bundle, names, precision)


def load_graphs(openvino: OpenVino, bundle: Bundle, names: Iterable[str], precision: str) -> Loaded:
    """Read, check and compile graphs.

    Args:
        openvino: that compiles.
        bundle: from `load_bundle`.
        names: of the graphs.
        precision: "fp32" or "bf16".

    Raises:
        EngineError: if OpenVINO cannot load a graph.
        BundleError: if a graph is missing, altered, or of another signature.
        VerificationError: if OpenVINO does not compute in "bf16" on this processor.
    """
    files = {**bundle.graphs, **bundle.split_graphs}
    models = {n: read_model(openvino, files[n].read(), str(files[n].path)) for n in names}
    inputs = {name: described(model.inputs) for name, model in models.items()}
    outputs = {name: described(model.outputs) for name, model in models.items()}
    signatures = {
        name: signature_of(
            bundle, name, str(files[name].path), inputs[name], outputs[name], drops_unused=True
        )
        for name in models
        if name in bundle.graphs
    }
    split = None
    if FRAME_PART in models:
        for name, found in inputs.items() if bundle.size_divisibility else ():
            check_open_sides(str(files[name].path), bundle.size_divisibility, found)
        split = check_split(bundle, inputs, outputs)
    try:
        graphs = {n: _compiled(openvino, bundle, n, m, precision) for n, m in models.items()}
    except RuntimeError as error:
        raise EngineError(f"OpenVINO cannot compile the model: {reason(error)}") from error
    return Loaded(graphs, signatures, split)


def _compiled(
    openvino: OpenVino,
    bundle: Bundle,
    name: str,
    model: Any,  # noqa: ANN401
    precision: str,
) -> Graph | SizedGraph:
    image = 1, 3, bundle.image_size, bundle.image_size
    sizes: Shapes = {"image": image, "embedding": bundle.embedding_shape}
    if name in _TAKE_IMAGES:
        return SizedGraph(openvino, model, precision, sizes)
    if name == DECODER:
        reshape(openvino, model, {"embedding": bundle.embedding_shape})
    return Graph(openvino, model, precision)
