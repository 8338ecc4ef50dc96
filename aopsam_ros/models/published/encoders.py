"""Encoders that others exported to ONNX, wrapped to a bundle's signature.

SAM 2's gives two finer maps beside the embedding: they become further channels of it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import (
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    helper,
    numpy_helper,
    parser,
    version_converter,
)

from aopsam_ros.errors import InputError, first_line

OLDEST_OPSET = 13
STRIDE = 16  # pixels to a cell of an embedding whose size is open
PREFIX = "theirs_"  # of every name of the graph that is wrapped
Sizes = list["int | None"]  # None: open

FINE_MAPS = ("high_res_feats_0", "high_res_feats_1")  # SAM 2's, as samexporter names them
FINE_FACTORS = (4, 2)  # their cells a side to one of the embedding
THEIR_EMBEDDING = ("image_embeddings", "image_embed")
# From a normalised image to `[S, S, 3]` that is not, its padding the mean.
_UNNORMALISE = """
    scaled = Mul(image, std) raw = Add(scaled, mean)
    channels_last = Transpose <perm = [0, 2, 3, 1]>(raw) seen = Reshape(channels_last, raw_shape)
"""


@dataclass(frozen=True)
class FineMap:
    """A map that the decoder takes beside the embedding."""

    name: str
    channels: int
    factor: int  # its cells a side to one of the embedding


@dataclass(frozen=True)
class Encoder:
    """A wrapped encoder: image `[1, 3, S, S]` to embedding `[1, C, E, E]`."""

    model: ModelProto
    image_size: int  # S
    channels: int  # of the embedding proper, which come first
    side: int  # E, cells
    fine_maps: tuple[FineMap, ...]  # what follows

    @property
    def embedding_shape(self) -> tuple[int, int, int, int]:
        """All channels and cells."""
        fine = sum(each.channels * each.factor**2 for each in self.fine_maps)
        return 1, self.channels + fine, self.side, self.side


def wrap_encoder(
    path: Path, mean: Sequence[float], std: Sequence[float], image_size: int
) -> Encoder:
    """Wrap an encoder.

    Args:
        path: the file; it takes an image `[1, 3, S, S]` that is normalised, or `[H, W, 3]` that is
            not, as samexporter's do.
        mean: per channel, on the 0-255 scale.
        std: likewise.
        image_size: S where the graph leaves it open.

    Raises:
        InputError: if it is no such graph.
    """
    model = read_graph(path)
    graph = model.graph
    taken = graph_inputs(graph)
    if len(taken) != 1:
        raise InputError(f"{path}: an encoder takes one image, not {', '.join(taken)}")
    name, sizes = next(iter(taken.items()))
    given = {output.name: sizes_of(output) for output in graph.output}
    fine_names = [fine for fine in FINE_MAPS if fine in given]
    rest = [output for output in given if output not in FINE_MAPS]
    embedding = next((known for known in THEIR_EMBEDDING if known in rest), rest[0] if rest else "")
    shape = given.get(embedding, [])
    is_raw = len(sizes) == 3 and sizes[2] == 3
    is_image = len(sizes) == 4 and sizes[1] == 3
    if not (is_raw or is_image) or len(shape) != 4:
        raise InputError(
            f"{path}: an encoder takes an image [1, 3, S, S] or [H, W, 3] and gives an embedding"
            f" [1, C, E, E], not {sizes} and {shape}"
        )
    size = sizes[-1] if is_image and isinstance(sizes[-1], int) else image_size
    channels, side = shape[1], shape[-1] or size // STRIDE
    if channels is None:
        raise InputError(f"{path}: says not how many channels its embedding has: {shape}")
    for fine in fine_names:
        if len(given[fine]) != 4 or not given[fine][1]:
            raise InputError(f"{path}: says not how many channels {fine} has: {given[fine]}")
    fine_maps = tuple(
        FineMap(fine, int(given[fine][1] or 0), FINE_FACTORS[FINE_MAPS.index(fine)])
        for fine in fine_names
    )
    onnx.compose.add_prefix(model, PREFIX, inplace=True)
    wrapped = Encoder(model, size, channels, side, fine_maps)
    constants: dict[str, ArrayLike] = {}
    if is_raw:
        constants = {
            "std": np.array(std, np.float32).reshape(1, 3, 1, 1),
            "mean": np.array(mean, np.float32).reshape(1, 3, 1, 1),
            "raw_shape": [size, size, 3],
        }
    before = nodes(_UNNORMALISE if is_raw else "seen = Identity(image)", **constants)
    packed = " ".join(
        f"packed_{fine.name} = SpaceToDepth <blocksize = {fine.factor}>({PREFIX}{fine.name})"
        for fine in fine_maps
    )
    parts = [PREFIX + embedding, *(f"packed_{fine.name}" for fine in fine_maps)]
    replace_graph(
        graph,
        [
            *before,
            helper.make_node("Identity", ["seen"], [PREFIX + name]),
            *graph.node,
            *nodes(packed),
            helper.make_node("Concat", parts, ["embedding"], axis=1),
        ],
        [value_info("image", [1, 3, size, size])],
        [value_info("embedding", wrapped.embedding_shape)],
    )
    return wrapped


def read_graph(path: Path) -> ModelProto:
    """Read a file.

    Raises:
        InputError: if there is none, or it is no graph, or one of an opset too old to convert.
    """
    try:
        model = onnx.load(str(path))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except Exception as error:  # damaged bytes can make protobuf raise anything
        raise InputError(f"{path}: not a readable ONNX file") from error
    if not all(isinstance(name, str) for name in _names(model.graph)):  # damaged: no text in UTF-8
        raise InputError(f"{path}: not a readable ONNX file")
    opset = max((entry.version for entry in model.opset_import if not entry.domain), default=0)
    if opset >= OLDEST_OPSET:
        return model
    try:
        return version_converter.convert_version(model, OLDEST_OPSET)
    except Exception as error:  # of the converter's own, C++ and Python
        newer = f"export it with {OLDEST_OPSET} or newer"
        raise InputError(f"{path}: of opset {opset}, {newer}: {first_line(error)}") from error


def _names(graph: GraphProto) -> Iterator[object]:
    """Yield the names of a graph's values and operators."""
    for value in (*graph.input, *graph.output, *graph.initializer):
        yield value.name
    for node in graph.node:
        yield from (node.name, node.op_type, *node.input, *node.output)


def replace_graph(
    graph: GraphProto,
    nodes: Sequence[NodeProto],
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
) -> None:
    """Put other nodes, inputs and outputs in place of a graph's; its weights stay."""
    nodes = list(nodes)  # some are the graph's own
    for field in ("node", "input", "output", "value_info"):
        graph.ClearField(field)
    graph.node.extend(nodes)
    graph.input.extend(inputs)
    graph.output.extend(outputs)


def graph_inputs(graph: GraphProto) -> dict[str, Sizes]:
    """Return the sizes of a graph's inputs that are no weights."""
    weights = {item.name for item in graph.initializer}
    return {item.name: sizes_of(item) for item in graph.input if item.name not in weights}


def sizes_of(value: ValueInfoProto) -> Sizes:
    """Return the sizes of an input or output."""
    return [size.dim_value or None for size in value.type.tensor_type.shape.dim]


def value_info(name: str, shape: Sequence[int | str | None]) -> ValueInfoProto:
    """Describe a float32 input or output."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def nodes(text: str, **constants: ArrayLike) -> list[NodeProto]:
    """Return nodes in ONNX's text format, behind those that give the constants they refer to."""
    given = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(values)))
        for name, values in constants.items()
    ]
    return [*given, *parser.parse_graph(f"g () => () {{ {text} }}").node]
