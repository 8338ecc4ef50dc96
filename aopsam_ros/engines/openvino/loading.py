"""A bundle's graphs, checked and compiled by OpenVINO in one precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from aopsam_ros.bundle.loading import DECODER, ENCODER, FRAME_PART, PREDICTOR, Bundle
from aopsam_ros.bundle.signatures import Shape, check_open_sides, signatures
from aopsam_ros.bundle.split_signature import SplitSignature, check_split
from aopsam_ros.engines.openvino.api import OpenVino, reason
from aopsam_ros.engines.openvino.graph import (
    Graph,
    SizedGraph,
    described,
    read_model,
    reshape,
)
from aopsam_ros.errors import EngineError

_SEE_AN_IMAGE = (ENCODER, PREDICTOR, FRAME_PART)


class Loaded(NamedTuple):
    """Compiled graphs by name, and how the parts of the decoder fit together where it has parts."""

    graphs: Mapping[str, Graph | SizedGraph]
    split: SplitSignature | None


def load_graphs(openvino: OpenVino, bundle: Bundle, precision: str) -> Loaded:
    """Read, check and compile the graphs; the decoder in parts where the bundle has it so.

    Args:
        openvino: that compiles.
        bundle: from `load_bundle`.
        precision: "fp32" or "bf16".

    Raises:
        EngineError: if OpenVINO cannot load a graph.
        BundleError: if a graph is missing, altered, or of another signature.
        VerificationError: if OpenVINO does not compute in "bf16" on this processor.
    """
    models = _models(openvino, bundle)
    split = _check_split(bundle, models) if bundle.split_graphs else None
    side = bundle.image_size
    sizes = {"image": (1, 3, side, side), "embedding": bundle.embedding_shape}
    try:
        graphs = {n: _compiled(openvino, n, m, precision, sizes) for n, m in models.items()}
    except RuntimeError as error:
        raise EngineError(f"OpenVINO cannot compile the model: {reason(error)}") from error
    return Loaded(graphs, split)


def _models(openvino: OpenVino, bundle: Bundle) -> dict[str, Any]:
    known = signatures(bundle)
    graphs = {**bundle.graphs, **bundle.split_graphs}
    if bundle.split_graphs:
        del graphs[DECODER]
    return {
        name: read_model(openvino, graph.read(), str(graph.path), known.get(name))
        for name, graph in graphs.items()
    }


def _check_split(bundle: Bundle, models: Mapping[str, Any]) -> SplitSignature:
    files = {**bundle.graphs, **bundle.split_graphs}
    inputs = {name: described(model.inputs) for name, model in models.items()}
    outputs = {name: described(model.outputs) for name, model in models.items()}
    if bundle.size_divisibility:
        for name, found in inputs.items():
            check_open_sides(str(files[name].path), bundle.size_divisibility, found)
    return check_split(bundle, inputs, outputs)


def _compiled(
    openvino: OpenVino,
    name: str,
    model: Any,  # noqa: ANN401
    precision: str,
    sizes: Mapping[str, Shape],
) -> Graph | SizedGraph:
    if name in _SEE_AN_IMAGE:
        return SizedGraph(openvino, model, precision, sizes)
    if name == DECODER:
        reshape(openvino, model, {"embedding": sizes["embedding"]})
    return Graph(openvino, model, precision)
