"""Another model's prompts: its encoder and Prompt Predictor as one graph behind a host's image.

The host's normalised image is scaled and normalised anew for the prompter, whose encoder and
predictor follow in the same graph. So a model that no predictor was trained for has prompts.
"""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, compose, helper

from aopsam_ros.bundle.loading import ENCODER, PREDICTOR, Bundle
from aopsam_ros.errors import BundleError, first_line
from aopsam_ros.models.published.encoders import nodes, value_info
from aopsam_ros.models.stored_weights import parse_graph

# Padding is zero for host and prompter, but zero is another colour where their means differ. It is
# known by its place: rows and columns at the end in which every value is zero.
_SHOWN = """
    rescaled = Mul(scaled, factor)
    magnitude = Abs(scaled)
    row_magnitude = ReduceMax <axes = [1, 3], keepdims = 1>(magnitude)
    column_magnitude = ReduceMax <axes = [1, 2], keepdims = 1>(magnitude)
    is_row = Greater(row_magnitude, nothing)
    is_column = Greater(column_magnitude, nothing)
    rows = Cast <to = 6>(is_row)
    columns = Cast <to = 6>(is_column)
    rows_from_here = CumSum <reverse = 1>(rows, row_axis)
    columns_from_here = CumSum <reverse = 1>(columns, column_axis)
    is_shown_row = Greater(rows_from_here, none)
    is_shown_column = Greater(columns_from_here, none)
    shown_rows = Cast <to = 1>(is_shown_row)
    shown_columns = Cast <to = 1>(is_shown_column)
    shown = Mul(shown_rows, shown_columns)
    shown_shift = Mul(shown, shift)
    normalised = Add(rescaled, shown_shift)
"""
_PAD = """
    scaled_shape = Shape(normalised)
    scaled_sides = Slice(scaled_shape, two, four)
    sides_up = Add(scaled_sides, multiple_less)
    multiples = Div(sides_up, multiple)
    padded_sides = Mul(multiples, multiple)
    beyond = Sub(padded_sides, scaled_sides)
    pads = Concat <axis = 0>(no_pads, beyond)
    seen = Pad(normalised, pads)
"""
# Rows and columns of the host's area in a map: those of `ContentArea.in_map`.
_ENDS = """
    shape = Shape(image)
    sides = Slice(shape, two, four)
    cells = Mul(sides, map_side)
    cells_up = Add(cells, square_less)
    ends = Div(cells_up, square)
"""


def compose_predictor(prompter: Bundle, host: Bundle) -> ModelProto:
    """Return the graph that gives the prompter's maps for the host's images.

    It takes `image`, `[1, 3, S, S]` or of any sides that the host's graphs take, and gives all maps
    of the prompter's predictor over the same area.

    Raises:
        BundleError: if the prompter has no predictor, a graph is missing or altered, or cannot be
            joined to another.
    """
    if PREDICTOR not in prompter.graphs:
        raise BundleError(f"{prompter.folder}: has no prompt predictor")
    predictor = _read(prompter, PREDICTOR)
    taken = [value.name for value in predictor.graph.input]
    whole, links = _eyes(prompter, host, predictor), [("seen_by_predictor", "image")]
    if "embedding" in taken:
        whole = _join(whole, _read(prompter, ENCODER), ENCODER, [("seen_by_encoder", "image")])
        links.append((f"{ENCODER}_embedding", "embedding"))
    whole = _join(whole, predictor, PREDICTOR, [link for link in links if link[1] in taken])
    _name_maps(whole, predictor, host, prompter.confidence_map_size)
    try:
        onnx.checker.check_model(whole, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = first_line(error)
        raise BundleError(f"{prompter.folder}: its graphs cannot be composed: {reason}") from error
    return whole


def _read(bundle: Bundle, graph: str) -> ModelProto:
    file = bundle.graphs[graph]
    model = parse_graph(file.read(), str(file.path))
    del model.metadata_props[:]  # where its weights are: not there in another graph
    return model


def _join(
    first: ModelProto, second: ModelProto, name: str, links: Sequence[tuple[str, str]]
) -> ModelProto:
    """Put a graph behind another one, its own names behind its name."""
    second = compose.add_prefix(second, f"{name}_")
    try:
        return compose.merge_models(first, second, [(a, f"{name}_{b}") for a, b in links])
    except (ValueError, onnx.checker.ValidationError) as error:
        reason = first_line(error)
        raise BundleError(f"the prompter's {name} cannot be composed: {reason}") from error


def _eyes(prompter: Bundle, host: Bundle, like: ModelProto) -> ModelProto:
    """Return the graph from the host's image to what the prompter's graphs take.

    Its version of ONNX is that of another graph. `ends` are sizes of the host's area in the maps,
    which are larger where the image has to be padded for the prompter.
    """
    outputs = ["seen_by_predictor"]
    if "embedding" in prompter.predictor_inputs:
        outputs.append("seen_by_encoder")
    graph = helper.make_graph(
        [
            *_scale(prompter, host),
            *_normalise(prompter, host),
            *_pad(prompter, host),
            *nodes(" ".join(f"{name} = Identity(seen)" for name in outputs)),
        ],
        "eyes",
        [_float("image", (1, 3), host, host.image_size)],
        [
            helper.make_tensor_value_info("ends", TensorProto.INT64, [2]),
            *(value_info(name, [1, 3, None, None]) for name in outputs),
        ],
    )
    return helper.make_model(graph, opset_imports=like.opset_import, ir_version=like.ir_version)


def _scale(prompter: Bundle, host: Bundle) -> list[NodeProto]:
    """Scale the image to the prompter's size; means of areas where they divide it evenly."""
    ratio = Fraction(host.image_size, prompter.image_size)
    if ratio == 1:
        return nodes("scaled = Identity(image)")
    size = ratio.numerator
    if ratio.denominator == 1 and (host.size_divisibility or host.image_size) % size == 0:
        attributes = f"kernel_shape = [{size}, {size}], strides = [{size}, {size}]"
        return nodes(f"scaled = AveragePool <{attributes}>(image)")
    scales = np.array([1, 1, 1 / ratio, 1 / ratio], np.float32)
    return nodes('scaled = Resize <mode = "linear">(image, , scales)', scales=scales)


def _normalise(prompter: Bundle, host: Bundle) -> list[NodeProto]:
    """Undo the host's mean and deviation, and apply the prompter's; padding stays zero."""
    std = np.array(prompter.std).reshape(1, 3, 1, 1)
    factor = np.float32(np.array(host.std).reshape(1, 3, 1, 1) / std)
    shift = np.float32((np.array(host.mean) - prompter.mean).reshape(1, 3, 1, 1) / std)
    if not shift.any():
        return nodes("normalised = Mul(scaled, factor)", factor=factor)
    zeros = {"nothing": np.float32(0), "none": np.int32(0)}
    return nodes(_SHOWN, factor=factor, shift=shift, row_axis=2, column_axis=3, **zeros)


def _pad(prompter: Bundle, host: Bundle) -> list[NodeProto]:
    """Pad below and to the right to sides that the prompter's graphs take."""
    multiple, square = prompter.size_divisibility or prompter.image_size, host.image_size
    return nodes(
        _PAD + _ENDS, two=[2], four=[4], no_pads=[0] * 6,
        multiple=[multiple], multiple_less=[multiple - 1],
        map_side=[prompter.confidence_map_size], square=[square], square_less=[square - 1],
    )  # fmt: skip


def _name_maps(whole: ModelProto, predictor: ModelProto, host: Bundle, side: int) -> None:
    """Cut the prompter's maps to the host's area, as outputs of their own names."""
    del whole.graph.output[:]
    whole.graph.node.extend(nodes("", map_start=[0, 0], map_axes=[2, 3]))
    for output in predictor.graph.output:
        name = output.name
        channels = output.type.tensor_type.shape.dim[1].dim_value
        text = f"{name} = Slice({PREDICTOR}_{name}, map_start, ends, map_axes)"
        whole.graph.node.extend(nodes(text))
        whole.graph.output.append(_float(name, (1, channels), host, side))


def _float(name: str, first: tuple[int, int], host: Bundle, side: int) -> ValueInfoProto:
    """Describe an image or a map, whose sides are open where the host's are."""
    is_open = host.size_divisibility > 0
    sides = (f"{name}_height", f"{name}_width") if is_open else (side, side)
    return value_info(name, [*first, *sides])
