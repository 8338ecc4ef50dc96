"""A bundle of three hand-made ONNX graphs, a few kilobytes, whose results can be predicted.

- Confidence is the image's red channel: a red dot is a prompt.
- Green and blue are the embedding: a prompt's masks are the pixels of about the colour at the
  middle of its points, with three tolerances, the middle one with the highest predicted IoU.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

SIZE = 128  # the padded square
CELL = 2  # pixels of the square to one of every map
MAP = SIZE // CELL
MEAN, STD = 127.5, 32.0
IMAGE = np.random.default_rng(0).normal(size=(1, 3, SIZE, SIZE)).astype(np.float32)
TOLERANCES = (0.02, 8.0, 200.0)  # squared distance in normalised colour
PREDICTED_IOU = (0.6, 0.9, 0.55)


def _value(name, shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _constant(name, array):
    return numpy_helper.from_array(np.asarray(array), name)


def _model(nodes, inputs, outputs, constants=()):
    graph = helper.make_graph(nodes, "graph", inputs, outputs, list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model


def prompts(count, points=1, seed=1):
    """Return foreground points anywhere: coordinates and labels."""
    coords = np.random.default_rng(seed).random((count, points, 2)).astype(np.float32) * SIZE
    return coords, np.ones((count, points), np.float32)


def encoder():
    """Average colour of each cell, green and blue before red."""
    order = np.zeros((3, 3, 1, 1), np.float32)
    order[[0, 1, 2], [1, 2, 0]] = 1.0
    nodes = [
        helper.make_node("Conv", ["image", "order"], ["gbr"]),
        helper.make_node(
            "AveragePool", ["gbr"], ["embedding"], kernel_shape=[CELL] * 2, strides=[CELL] * 2
        ),
    ]
    return _model(
        nodes,
        [_value("image", [1, 3, SIZE, SIZE])],
        [_value("embedding", [1, 3, MAP, MAP])],
        [_constant("order", order)],
    )


def prompt_predictor():
    """Sigmoid of the embedding's red channel."""
    constants = [_constant("from", [2]), _constant("to", [3]), _constant("axis", [1])]
    nodes = [
        helper.make_node("Slice", ["embedding", "from", "to", "axis"], ["red"]),
        helper.make_node("Sigmoid", ["red"], ["confidence_map"]),
    ]
    return _model(
        nodes,
        [_value("image", [1, 3, SIZE, SIZE]), _value("embedding", [1, 3, MAP, MAP])],
        [_value("confidence_map", [1, 1, MAP, MAP])],
        constants,
    )


def mask_decoder(tolerances=TOLERANCES, ious=PREDICTED_IOU):
    """Tolerance minus squared colour distance to the middle of each prompt's points."""
    count = len(tolerances)
    constants = [
        _constant("zero", [0]),
        _constant("one", [1]),
        _constant("two", [2]),
        _constant("half", np.float32(0.5)),
        _constant("to_unit", np.float32(2.0 / SIZE)),
        _constant("unit", np.float32(1.0)),
        _constant("batch_axis", np.array([0], np.int64)),
        _constant("tolerances", np.float32(tolerances).reshape(1, count, 1, 1)),
        _constant("steep", np.float32(20.0)),
        _constant("ious", np.float32([ious])),
    ]
    nodes = [
        helper.make_node("ReduceMean", ["point_coords"], ["middle"], axes=[1], keepdims=1),
        helper.make_node("Add", ["middle", "half"], ["centred"]),
        helper.make_node("Mul", ["centred", "to_unit"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "unit"], ["in_unit"]),
        helper.make_node("Unsqueeze", ["in_unit", "batch_axis"], ["grid"]),
        helper.make_node("Slice", ["embedding", "zero", "two", "one"], ["colours"]),
        helper.make_node(
            "GridSample", ["colours", "grid"], ["picked"], mode="nearest", padding_mode="border"
        ),
        helper.make_node("Transpose", ["picked"], ["own"], perm=[2, 1, 0, 3]),
        helper.make_node("Sub", ["colours", "own"], ["difference"]),
        helper.make_node("Mul", ["difference", "difference"], ["squared"]),
        helper.make_node("ReduceSum", ["squared", "one"], ["distance"], keepdims=1),
        helper.make_node("Sub", ["tolerances", "distance"], ["near"]),
        helper.make_node("Mul", ["near", "steep"], ["low_res_logits"]),
        helper.make_node("ReduceMax", ["point_labels"], ["label"], axes=[1], keepdims=1),
        helper.make_node("Abs", ["label"], ["positive"]),
        helper.make_node("Mul", ["ious", "positive"], ["predicted_iou"]),
    ]
    return _model(
        nodes,
        [
            _value("embedding", [1, 3, MAP, MAP]),
            _value("point_coords", ["N", "K", 2]),
            _value("point_labels", ["N", "K"]),
        ],
        [_value("low_res_logits", ["N", count, MAP, MAP]), _value("predicted_iou", ["N", count])],
        constants,
    )


def with_semantic_map(model):
    """Let an encoder give a second output: the average colour of 32 x 32 pixels."""
    pool = {"kernel_shape": [32, 32], "strides": [32, 32]}
    model.graph.node.append(helper.make_node("AveragePool", ["gbr"], ["semantic_map"], **pool))
    model.graph.output.append(_value("semantic_map", [1, 3, SIZE // 32, SIZE // 32]))
    return model


def image_predictor():
    """Give the confidence of `prompt_predictor` without the embedding, and extents beside it.

    Extents are the average colour of each cell, red before green and blue, then the confidence.
    """
    pool = {"kernel_shape": [CELL] * 2, "strides": [CELL] * 2}
    nodes = [
        helper.make_node("AveragePool", ["image"], ["pooled"], **pool),
        helper.make_node("Slice", ["pooled", "from", "to", "axis"], ["red"]),
        helper.make_node("Sigmoid", ["red"], ["confidence_map"]),
        helper.make_node("Concat", ["pooled", "confidence_map"], ["extent_map"], axis=1),
    ]
    return _model(
        nodes,
        [_value("image", [1, 3, SIZE, SIZE])],
        [_value("confidence_map", [1, 1, MAP, MAP]), _value("extent_map", [1, 4, MAP, MAP])],
        [_constant("from", [0]), _constant("to", [1]), _constant("axis", [1])],
    )


def with_mask_input(model):
    """Let a decoder add the masks that its prompts begin with to their logits."""
    with_last(model, "low_res_logits", "Add", {})
    model.graph.node[-1].input.append("begin")
    places = numpy_helper.from_array(np.array([1, 2, 3]), "maps_axes")
    model.graph.initializer.append(places)
    nodes = [
        helper.make_node("Unsqueeze", ["has_mask_input", "maps_axes"], ["has_mask"]),
        helper.make_node("Mul", ["mask_input", "has_mask"], ["begin"]),
    ]
    last = model.graph.node.pop()
    model.graph.node.extend([*nodes, last])
    model.graph.input.append(_value("mask_input", ["N", 1, MAP, MAP]))
    model.graph.input.append(_value("has_mask_input", ["N"]))
    return model


def with_last(model, output, op, constants, **attributes):
    """Return a graph whose output goes through one more operator, first."""
    for node in model.graph.node:
        node.output[:] = ["before" if name == output else name for name in node.output]
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    model.graph.node.append(
        helper.make_node(op, ["before", *constants], [output], name="last", **attributes)
    )
    return model


def resized(model, name, sizes):
    """Say that an input or output has other sizes."""
    (value,) = (v for v in [*model.graph.input, *model.graph.output] if v.name == name)
    value.CopyFrom(_value(name, sizes))
    return model


GRAPHS = {"encoder": encoder, "prompt_predictor": prompt_predictor, "mask_decoder": mask_decoder}


def open_sides(model):
    """Leave height and width of images and maps open."""
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        if len(dims) == 4 and value.name != "own":
            dims[2].dim_param, dims[3].dim_param = f"{value.name}_height", f"{value.name}_width"
    return model


def edit(folder, change):
    """Let a function change the fields of a bundle.yaml."""
    fields = yaml.safe_load((folder / "bundle.yaml").read_text())
    change(fields)
    (folder / "bundle.yaml").write_text(yaml.safe_dump(fields))


def write_tiny_bundle(folder: Path, models=None, **changes) -> Path:
    """Write the bundle, with some graphs or fields of bundle.yaml replaced (None leaves it out)."""
    folder.mkdir(parents=True, exist_ok=True)
    graphs = {}
    for name, make in GRAPHS.items():
        content = ((models or {}).get(name) or make()).SerializeToString()
        (folder / f"{name}.onnx").write_bytes(content)
        graphs[name] = {
            "file": f"{name}.onnx",
            "sha256": hashlib.sha256(content).hexdigest(),
        }
    fields = {
        "name": "tiny",
        "version": "1",
        "licence": "Apache-2.0",
        "provenance": {"made": "by hand"},
        "image_size": SIZE,
        "mean": [MEAN] * 3,
        "std": [STD] * 3,
        "embedding_shape": [1, 3, MAP, MAP],
        "similarity_channels": 2,
        "low_res_mask_size": MAP,
        "confidence_map_size": MAP,
        "graphs": graphs,
        "defaults": {
            "asf": {"smoothing_sigma": 0.5, "confidence_threshold": 0.3, "min_spacing": 2},
            "mask": {"stability_threshold": 0.5, "predicted_iou_threshold": 0.5, "min_area": 4},
        },
    }
    fields |= changes
    kept = {key: value for key, value in fields.items() if value is not None}
    (folder / "bundle.yaml").write_text(yaml.safe_dump(kept))
    return folder
