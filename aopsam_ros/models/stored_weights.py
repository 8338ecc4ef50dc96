"""How exported graphs store weights: in 16 bits, and so that they can be read back.

Weights that 16 bits represent exactly are stored so and cast at the start of the graph; engines
fold the casts when they load it. A table in the graph's metadata says where each parameter of the
module is, under whatever name and shape the exporter left it: training goes on from an exported
bundle where its checkpoint is lost.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto

from aopsam_ros.bundle.loading import DECODER, ENCODER, PREDICTOR, Bundle
from aopsam_ros.errors import BundleError, InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

TABLE = "weights"  # key of the metadata
HALF = ".half"  # ends the name of a weight in 16 bits
SMALLEST_HALVED = 256  # elements; of smaller ones nothing is gained
# What a graph's module is called in the whole model.
PREFIXES = {ENCODER: "encoder.", DECODER: "", PREDICTOR: "predictor."}


def round_weights(module: nn.Module) -> None:
    """Round all parameters to what 16 bits represent."""
    import torch

    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(parameter.half().float())


def list_weights(model: ModelProto, module: nn.Module) -> None:
    """Write the table of a graph's weights, found by their values, into its metadata."""
    places: dict[str, tuple[str, bool]] = {}
    for name, array in _float_initializers(model):
        places.setdefault(_digest(array), (name, False))
        if array.ndim == 2:
            places.setdefault(_digest(array.T), (name, True))
    table = {
        name: places[digest]
        for name, value in module.state_dict().items()
        if (digest := _digest(value.detach().cpu().numpy())) in places
    }
    onnx.helper.set_model_props(model, {TABLE: json.dumps(table)})


def halve_weights(model: ModelProto) -> None:
    """Store the weights of a graph in 16 bits, as far as they lose nothing by it."""
    casts = []
    for initializer in model.graph.initializer:
        if initializer.data_type != onnx.TensorProto.FLOAT:
            continue
        array = onnx.numpy_helper.to_array(initializer)
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        if array.size < SMALLEST_HALVED or not np.array_equal(half.astype(np.float32), array):
            continue
        name = initializer.name
        stored = f"{name}{HALF}"
        initializer.CopyFrom(onnx.numpy_helper.from_array(half, stored))
        casts.append(onnx.helper.make_node("Cast", [stored], [name], to=onnx.TensorProto.FLOAT))
    _replace_nodes(model, [*casts, *model.graph.node])


def parse_graph(content: bytes, name: str) -> ModelProto:
    """Return the graph of an ONNX file of a bundle; `name` is for the message.

    Raises:
        BundleError: if it is none, or its weights are in another file.
    """
    try:
        model = onnx.load_from_string(content)
    except Exception as error:  # damaged bytes can make protobuf raise anything
        raise BundleError(f"{name}: not a readable ONNX file") from error
    if any(item.external_data for item in model.graph.initializer):
        raise BundleError(f"{name}: its weights are in another file, which no bundle can have")
    return model


def load_graph(path: Path) -> ModelProto:
    """Load a graph with its weights in 32 bits, whatever they are stored in.

    Raises:
        BundleError: if it is not ONNX, or its weights are in another file.
    """
    model = parse_graph(path.read_bytes(), path.name)
    for initializer in model.graph.initializer:
        if initializer.name.endswith(HALF):
            array = onnx.numpy_helper.to_array(initializer).astype(np.float32)
            name = initializer.name.removesuffix(HALF)
            initializer.CopyFrom(onnx.numpy_helper.from_array(array, name))
    # Without the casts of weights.
    kept = [node for node in model.graph.node if [*node.input] != [f"{node.output[0]}{HALF}"]]
    _replace_nodes(model, kept)
    return model


def save_graph(model: ModelProto, path: Path) -> None:
    """Write a graph as one file.

    Raises:
        BundleError: if it would be larger than a file of protocol buffers can be.
        OSError: if it cannot be written.
    """
    try:
        onnx.save(model, str(path))
    except OSError:
        raise
    except Exception as error:  # protobuf has several for what is too large
        raise BundleError(
            f"{path.name}: more than 2 GB, which one ONNX file cannot hold; weights that 16 bits"
            " represent take half of it"
        ) from error


def _replace_nodes(model: ModelProto, nodes: Sequence[NodeProto]) -> None:
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def read_weights(bundle: Bundle) -> dict[str, Tensor]:
    """Read the parameters that a bundle's graphs were exported from, by their names in the model.

    Raises:
        BundleError: if a graph is missing, altered or not ONNX.
        InputError: if the graphs say nothing about their weights.
    """
    import torch

    weights: dict[str, Tensor] = {}
    for graph, prefix in PREFIXES.items():
        if graph not in bundle.graphs:
            continue
        file = bundle.graphs[graph]
        model = parse_graph(file.read(), str(file.path))
        entries = {entry.key: entry.value for entry in model.metadata_props}
        try:
            arrays = dict(_float_initializers(model))
            for name, (stored, is_transposed) in json.loads(entries.get(TABLE, "{}")).items():
                array = arrays[stored].T if is_transposed else arrays[stored]
                weights[prefix + name] = torch.from_numpy(array.copy())
        except (KeyError, ValueError, TypeError, AttributeError) as error:  # others' table
            raise InputError(f"{file.path}: its weights cannot be read ({error})") from error
    if not weights:
        raise InputError(f"{bundle.folder}: its graphs do not say where their weights are")
    return weights


def _float_initializers(model: ModelProto) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield the weights of a graph in 32 bits, under the names that its nodes use."""
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    for initializer in model.graph.initializer:
        if initializer.data_type in floats:
            array = onnx.numpy_helper.to_array(initializer)
            yield initializer.name.removesuffix(HALF), array.astype(np.float32)


def _digest(array: NDArray[np.generic]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
