"""Decoders that others exported to ONNX, wrapped to a bundle's signature.

SAM's own exporter, NanoSAM's and samexporter's decoders take one prompt at a time. Ours takes N: a
loop over the prompts runs theirs for each, which on a processor takes no longer than a batch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from aopsam_ros.bundle.signatures import HAS_MASK_INPUT, IOU, LOGITS, MASK_INPUT
from aopsam_ros.errors import InputError
from aopsam_ros.models.published_graphs import (
    PREFIX,
    THEIR_EMBEDDING,
    Encoder,
    Sizes,
    constant,
    graph_inputs,
    node,
    read_graph,
    replace_graph,
    sizes_of,
    value_info,
)

THEIR_LOGITS, THEIR_IOU = ("low_res_masks", "masks"), "iou_predictions"
THEIR_SIZE = "orig_im_size"  # of the image, to which SAM's own graphs also upscale masks
MASK_COUNTS = (3, 4)


@dataclass(frozen=True)
class Decoder:
    """A wrapped decoder of N prompts."""

    model: ModelProto
    side: int  # M, of its masks' logits


def wrap_decoder(path: Path, encoder: Encoder) -> Decoder:
    """Wrap a decoder of one prompt.

    A prompt of points ends with one that is padding, as SAM's do; SAM 2's graphs add it themselves.

    Args:
        path: the file.
        encoder: whose embedding it takes.

    Raises:
        InputError: if it is no such graph.
    """
    model = read_graph(path)
    taken = graph_inputs(model.graph)
    given = {output.name: sizes_of(output) for output in model.graph.output}
    embedding = next((name for name in THEIR_EMBEDDING if name in taken), None)
    logits = next((name for name in THEIR_LOGITS if name in given), None)
    fine = {each.name for each in encoder.fine_maps}
    known = {*THEIR_EMBEDDING, *fine, "point_coords", "point_labels", THEIR_SIZE}
    unknown = set(taken) - known - {MASK_INPUT, HAS_MASK_INPUT}
    fits = THEIR_IOU in given and not unknown and fine <= set(taken)
    if embedding is None or logits is None or not fits:
        raise InputError(
            f"{path}: not a decoder for this encoder: it takes {', '.join(taken)} and gives"
            f" {', '.join(given)}"
        )
    masks, side = _run_once(path, model, taken, logits, encoder)
    if masks not in MASK_COUNTS:
        raise InputError(f"{path}: gives {masks} masks a prompt, not 3 or 4; export all of SAM's")
    _loop(model, taken, embedding, logits, encoder, (masks, side))
    return Decoder(model, side)


def _loop(
    model: ModelProto,
    taken: Mapping[str, Sizes],
    embedding: str,
    logits: str,
    encoder: Encoder,
    sizes: tuple[int, int],
) -> None:
    """Make a decoder of one prompt the body of a loop over the prompts."""
    masks, side = sizes
    onnx.compose.add_prefix(model, PREFIX, inplace=True)
    theirs = model.graph
    with_masks = MASK_INPUT in taken
    looped = ["point_coords", "point_labels", *([MASK_INPUT, HAS_MASK_INPUT] * with_masks)]
    ends_itself = bool(encoder.fine_maps)
    shapes = {
        "point_coords": (None, 2),
        "point_labels": (None,),
        MASK_INPUT: (1, side, side),
        HAS_MASK_INPUT: (),
    }
    body = [*_prompt(ends_itself), *_mask(side)] if with_masks else _prompt(ends_itself)
    if THEIR_SIZE in taken:
        size = np.full(2, encoder.image_size, np.float32)
        body.append(constant(PREFIX + THEIR_SIZE, size))
    body += [
        *_needed(theirs, {PREFIX + logits, PREFIX + THEIR_IOU}),
        constant("shape/logits", np.array([masks, side, side])),
        node("Reshape", [PREFIX + logits, "shape/logits"], "one/logits"),
        constant("shape/iou", np.array([masks])),
        node("Reshape", [PREFIX + THEIR_IOU, "shape/iou"], "one/iou"),
        node("Identity", ["goes"], "goes_on"),
    ]
    each = helper.make_graph(
        [*(node("Gather", [name, "prompt"], f"one/{name}", axis=0) for name in looped), *body],
        "decode_one",
        [
            helper.make_tensor_value_info("prompt", TensorProto.INT64, ()),
            helper.make_tensor_value_info("goes", TensorProto.BOOL, ()),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, ()),
            value_info("one/logits", (masks, side, side)),
            value_info("one/iou", (masks,)),
        ],
    )
    loop = [
        node("Shape", ["point_labels"], "sizes"),
        constant("first", np.array(0)),
        node("Gather", ["sizes", "first"], "prompts"),
        constant("always", np.array(True)),
        helper.make_node("Loop", ["prompts", "always"], [LOGITS, IOU], body=each),
    ]
    whole = [*_unpack(embedding, encoder), *loop]
    inputs = [value_info("embedding", encoder.embedding_shape)]
    inputs += [value_info(name, (None, *shapes[name])) for name in looped]
    outputs = [value_info(LOGITS, (None, masks, side, side)), value_info(IOU, (None, masks))]
    replace_graph(theirs, whole, inputs, outputs)


def _prompt(ends_itself: bool) -> list[NodeProto]:
    """Return nodes from a prompt `one/…` to theirs: padding cut off, the end of points added."""
    nodes = [
        constant("zero", np.zeros(1, np.float32)),
        constant("from", np.zeros(1, np.int64)),
        constant("shape/coords", np.array([1, -1, 2])),
        constant("shape/labels", np.array([1, -1])),
        node("GreaterOrEqual", ["one/point_labels", "zero"], "is_point"),
        node("Cast", ["is_point"], "counted", to=TensorProto.INT64),
        node("ReduceSum", ["counted"], "points", keepdims=1),
    ]
    coords, labels, count = "one/point_coords", "one/point_labels", "points"
    if not ends_itself:
        coords, labels, count = "ended/coords", "ended/labels", "count"
        nodes += [
            constant("end/coords", np.zeros((1, 2), np.float32)),
            constant("end/labels", np.full(1, -1.0, np.float32)),
            constant("corner", np.full(1, 2.0, np.float32)),
            node("Concat", ["one/point_coords", "end/coords"], coords, axis=0),
            node("Concat", ["one/point_labels", "end/labels"], labels, axis=0),
            node("ReduceMax", ["one/point_labels"], "largest", keepdims=1),
            node("Less", ["largest", "corner"], "is_boxless"),
            node("Cast", ["is_boxless"], "ends", to=TensorProto.INT64),
            node("Add", ["points", "ends"], count),
        ]
    return [
        *nodes,
        node("Slice", [coords, "from", count], "kept/coords"),
        node("Slice", [labels, "from", count], "kept/labels"),
        node("Reshape", ["kept/coords", "shape/coords"], f"{PREFIX}point_coords"),
        node("Reshape", ["kept/labels", "shape/labels"], f"{PREFIX}point_labels"),
    ]


def _mask(side: int) -> list[NodeProto]:
    """Return nodes from a mask to start from `one/…` to theirs."""
    return [
        constant("shape/mask", np.array([1, 1, side, side])),
        constant("shape/has", np.array([1])),
        node("Reshape", [f"one/{MASK_INPUT}", "shape/mask"], PREFIX + MASK_INPUT),
        node("Reshape", [f"one/{HAS_MASK_INPUT}", "shape/has"], PREFIX + HAS_MASK_INPUT),
    ]


def _unpack(embedding: str, encoder: Encoder) -> list[NodeProto]:
    """Return nodes from our embedding to theirs and its finer maps."""
    if not encoder.fine_maps:
        return [node("Identity", ["embedding"], PREFIX + embedding)]
    counts = [encoder.channels, *(fine.channels * fine.factor**2 for fine in encoder.fine_maps)]
    packed = [f"packed/{fine.name}" for fine in encoder.fine_maps]
    split = helper.make_node(
        "Split", ["embedding", "counts"], [PREFIX + embedding, *packed], axis=1
    )
    unpacked = [
        node("DepthToSpace", [name], PREFIX + fine.name, blocksize=fine.factor)
        for name, fine in zip(packed, encoder.fine_maps, strict=True)
    ]
    return [constant("counts", np.array(counts)), split, *unpacked]


def _run_once(
    path: Path,
    model: ModelProto,
    taken: Mapping[str, Sizes],
    logits: str,
    encoder: Encoder,
) -> tuple[int, int]:
    """Run a decoder on one prompt; return how many masks it gives and their side.

    Graphs often leave open what they give.
    """
    import onnxruntime

    size = encoder.image_size
    fine = {each.name: each for each in encoder.fine_maps}
    given: dict[str, NDArray[np.float32]] = {}
    for name, sizes in taken.items():
        shape = [count or 1 for count in sizes]
        if name in THEIR_EMBEDDING:
            shape = [1, encoder.channels, encoder.side, encoder.side]
        elif name in fine:
            cells = encoder.side * fine[name].factor
            shape = [1, fine[name].channels, cells, cells]
        given[name] = np.ones(shape, np.float32)
        if name == THEIR_SIZE:
            given[name] = np.full(2, size, np.float32)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        found = session.run([logits, THEIR_IOU], given)
    except Exception as error:  # of many kinds, without a common base
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: cannot be run on one prompt: {reason}") from error
    return int(found[1].shape[-1]), int(found[0].shape[-1])


def _needed(graph: GraphProto, outputs: set[str]) -> list[NodeProto]:
    """Return the nodes that some outputs depend on, in their order."""
    needed, nodes = set(outputs), []
    for each in reversed(graph.node):
        if needed.intersection(each.output):
            nodes.append(each)
            needed.update(each.input)
            for attribute in each.attribute:
                needed.update(name for inner in attribute.g.node for name in inner.input)
    return nodes[::-1]
