"""Decoders that others exported to ONNX, wrapped to a bundle's signature.

SAM's own exporter, NanoSAM's and samexporter's decoders take one prompt at a time. Ours takes N: a
loop over the prompts runs theirs for each, which on a processor takes no longer than a batch.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from aopsam_ros.bundle.signatures import HAS_MASK_INPUT, IOU, LOGITS, MASK_INPUT
from aopsam_ros.errors import InputError, first_line
from aopsam_ros.models.published.chosen_mask import give_all_masks
from aopsam_ros.models.published.encoders import (
    PREFIX,
    THEIR_EMBEDDING,
    Encoder,
    Sizes,
    graph_inputs,
    nodes,
    read_graph,
    replace_graph,
    sizes_of,
    value_info,
)

THEIR_LOGITS, THEIR_IOU = ("low_res_masks", "masks"), "iou_predictions"
THEIR_SIZE = "orig_im_size"  # of the image, to which SAM's own graphs also upscale masks
MASK_COUNTS = (3, 4)
_OF_ONE = "one_{name} = Gather <axis = 0>({name}, prompt)"
# A prompt's points without the padding behind them and, where the labels are below a limit, with
# one that is padding.
_POINTS = """
    is_point = GreaterOrEqual(one_point_labels, zero)
    counted = Cast <to = 7>(is_point)
    points = ReduceSum <keepdims = 1>(counted)
    largest = ReduceMax <keepdims = 1>(one_point_labels)
    has_end = Less(largest, limit)
    ends = Cast <to = 7>(has_end)
    count = Add(points, ends)
    ended_coords = Concat <axis = 0>(one_point_coords, end_coords)
    ended_labels = Concat <axis = 0>(one_point_labels, end_label)
    kept_coords = Slice(ended_coords, begin, count)
    kept_labels = Slice(ended_labels, begin, count)
    theirs_point_coords = Reshape(kept_coords, coords_shape)
    theirs_point_labels = Reshape(kept_labels, labels_shape)
"""
_MASK = """
    theirs_mask_input = Reshape(one_mask_input, mask_shape)
    theirs_has_mask_input = Reshape(one_has_mask_input, one)
"""
_ANSWERS = """
    one_logits = Reshape({logits}, logits_shape)
    one_iou = Reshape({iou}, iou_shape)
    goes_on = Identity(goes)
"""


def wrap_decoder(path: Path, encoder: Encoder) -> tuple[ModelProto, int]:
    """Wrap a decoder of one prompt, which takes this encoder's embedding.

    A prompt of points ends with one that is padding, as SAM's do; SAM 2's graphs add it themselves.

    Returns:
        The decoder of N prompts, and the side M of its masks' logits.

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
    chosen = give_all_masks(model.graph, (logits, THEIR_IOU))
    masks, side = _run_once(path, model, taken, chosen, encoder)
    if masks not in MASK_COUNTS:
        raise InputError(f"{path}: gives {masks} masks a prompt, not 3 or 4; export all of SAM's")
    onnx.compose.add_prefix(model, PREFIX, inplace=True)
    shapes: dict[str, tuple[int | None, ...]] = {"point_coords": (None, 2), "point_labels": (None,)}
    if MASK_INPUT in taken:
        shapes |= {MASK_INPUT: (1, side, side), HAS_MASK_INPUT: ()}
    answers = [PREFIX + name for name in chosen]
    body = [
        *(each for name in shapes for each in nodes(_OF_ONE.format(name=name))),
        *_inputs(taken, encoder, side),
        *_needed(model.graph, set(answers)),
        *nodes(
            _ANSWERS.format(logits=answers[0], iou=answers[1]),
            logits_shape=[masks, side, side],
            iou_shape=[masks],
        ),
    ]
    each = helper.make_graph(
        body,
        "decode_one",
        [
            helper.make_tensor_value_info("prompt", TensorProto.INT64, ()),
            helper.make_tensor_value_info("goes", TensorProto.BOOL, ()),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, ()),
            value_info("one_logits", (masks, side, side)),
            value_info("one_iou", (masks,)),
        ],
    )
    replace_graph(
        model.graph,
        [
            *_unpack(embedding, encoder),
            *nodes(
                "sizes = Shape(point_labels) prompts = Gather(sizes, first)", first=0, always=True
            ),
            helper.make_node("Loop", ["prompts", "always"], [LOGITS, IOU], body=each),
        ],
        [
            value_info("embedding", encoder.embedding_shape),
            *(value_info(name, (None, *shape)) for name, shape in shapes.items()),
        ],
        [value_info(LOGITS, (None, masks, side, side)), value_info(IOU, (None, masks))],
    )
    return model, side


def _inputs(taken: Mapping[str, Sizes], encoder: Encoder, side: int) -> list[NodeProto]:
    """Return nodes from one of our prompts to what their decoder takes."""
    # A box has no end, and SAM 2's decoders, which take finer maps, add it themselves.
    limit = -2.0 if encoder.fine_maps else 2.0
    found = nodes(
        _POINTS,
        zero=np.zeros(1, np.float32),
        limit=np.full(1, limit, np.float32),
        end_coords=np.zeros((1, 2), np.float32),
        end_label=np.full(1, -1.0, np.float32),
        begin=[0],
        coords_shape=[1, -1, 2],
        labels_shape=[1, -1],
    )
    if MASK_INPUT in taken:
        found += nodes(_MASK, mask_shape=[1, 1, side, side], one=[1])
    if THEIR_SIZE in taken:
        found += nodes("", **{PREFIX + THEIR_SIZE: np.full(2, encoder.image_size, np.float32)})
    return found


def _unpack(embedding: str, encoder: Encoder) -> list[NodeProto]:
    """Return nodes from our embedding to theirs and its finer maps."""
    if not encoder.fine_maps:
        return nodes(f"{PREFIX}{embedding} = Identity(embedding)")
    counts = [encoder.channels, *(fine.channels * fine.factor**2 for fine in encoder.fine_maps)]
    packed = ", ".join(f"packed_{fine.name}" for fine in encoder.fine_maps)
    text = f"{PREFIX}{embedding}, {packed} = Split <axis = 1>(embedding, counts)"
    for fine in encoder.fine_maps:
        depth = f"DepthToSpace <blocksize = {fine.factor}>(packed_{fine.name})"
        text += f" {PREFIX}{fine.name} = {depth}"
    return nodes(text, counts=counts)


def _run_once(
    path: Path,
    model: ModelProto,
    taken: Mapping[str, Sizes],
    answers: Sequence[str],
    encoder: Encoder,
) -> tuple[int, int]:
    """Run a decoder on one prompt; return how many masks it gives and their side.

    Graphs often leave open what they give: the answers are logits and predicted IoU.
    """
    cells = encoder.side
    shapes = dict.fromkeys(THEIR_EMBEDDING, (1, encoder.channels, cells, cells))
    for fine in encoder.fine_maps:
        shapes[fine.name] = (1, fine.channels, cells * fine.factor, cells * fine.factor)
    given = {
        name: np.ones(shapes.get(name, [count or 1 for count in sizes]), np.float32)
        for name, sizes in taken.items()
    }
    if THEIR_SIZE in taken:
        given[THEIR_SIZE] = np.full(2, encoder.image_size, np.float32)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        found = session.run(list(answers), given)
    except Exception as error:  # of many kinds, without a common base
        reason = first_line(error)
        raise InputError(f"{path}: cannot be run on one prompt: {reason}") from error
    return int(found[1].shape[-1]), int(found[0].shape[-1])


def _needed(graph: GraphProto, outputs: set[str]) -> list[NodeProto]:
    """Return the nodes that some outputs depend on, in their order."""
    needed, found = set(outputs), []
    for each in reversed(graph.node):
        if needed.intersection(each.output):
            found.append(each)
            needed.update(each.input)
            for attribute in each.attribute:
                needed.update(name for inner in attribute.g.node for name in inner.input)
    return found[::-1]
