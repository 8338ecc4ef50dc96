"""A bundle of three hand-made ONNX graphs, a few kilobytes, whose results can be predicted.

- Confidence is the image's red channel: a red dot is a prompt.
- Green and blue are the embedding: a prompt's masks are the pixels of about the colour at the
  middle of its points, with three tolerances, the middle one with the highest predicted IoU.
"""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper, parser

SIZE = 128  # the padded square
CELL = 2  # pixels of the square to one of every map
MAP = SIZE // CELL
ATTENTION_CELL = 16  # likewise, of an encoder's attention
ATTENTION = {"layer": 7, "head": 2, "side": SIZE // ATTENTION_CELL}
MEAN, STD = 127.5, 32.0
IMAGE = np.random.default_rng(0).normal(size=(1, 3, SIZE, SIZE)).astype(np.float32)
TOLERANCES = (0.02, 8.0, 200.0)  # squared distance in normalised colour
PREDICTED_IOU = (0.6, 0.9, 0.55)
IMAGE_INPUT = f"float[1, 3, {SIZE}, {SIZE}] image"
EMBEDDING = f"float[1, 3, {MAP}, {MAP}] embedding"
CONFIDENCE = f"float[1, 1, {MAP}, {MAP}] confidence_map"
POOL = f"AveragePool <kernel_shape = [{CELL}, {CELL}], strides = [{CELL}, {CELL}]>"


def nodes(text):
    """Read nodes in ONNX's text format."""
    return parser.parse_graph(f"graph () => () {{ {text} }}").node


def add_constants(graph, **values):
    """Add arrays that nodes refer to by name."""
    graph.initializer.extend(numpy_helper.from_array(np.asarray(v), n) for n, v in values.items())


def model_of(inputs, outputs, text, **constants):
    """Make a model of a graph in ONNX's text format, and of the arrays it refers to."""
    header = f'<ir_version: 8, opset_import: ["": 17]> graph ({inputs}) => ({outputs})'
    model = parser.parse_model(f"{header} {{ {text} }}")
    add_constants(model.graph, **constants)
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
    text = f"gbr = Conv(image, order) embedding = {POOL}(gbr)"
    return model_of(IMAGE_INPUT, EMBEDDING, text, order=order)


def prompt_predictor():
    """Sigmoid of the embedding's red channel."""
    text = "red = Slice(embedding, start, end, axis) confidence_map = Sigmoid(red)"
    return model_of(f"{IMAGE_INPUT}, {EMBEDDING}", CONFIDENCE, text, start=[2], end=[3], axis=[1])


def mask_decoder(tolerances=TOLERANCES, ious=PREDICTED_IOU):
    """Tolerance minus squared colour distance to the middle of each prompt's points."""
    count = len(tolerances)
    return model_of(
        f"{EMBEDDING}, float[N, K, 2] point_coords, float[N, K] point_labels",
        f"float[N, {count}, {MAP}, {MAP}] low_res_logits, float[N, {count}] predicted_iou",
        """
        middle = ReduceMean <axes = [1], keepdims = 1>(point_coords)
        centred = Add(middle, half)
        scaled = Mul(centred, to_unit)
        in_unit = Sub(scaled, unit)
        grid = Unsqueeze(in_unit, zero)
        colours = Slice(embedding, zero, two, one)
        picked = GridSample <mode = "nearest", padding_mode = "border">(colours, grid)
        own = Transpose <perm = [2, 1, 0, 3]>(picked)
        difference = Sub(colours, own)
        squared = Mul(difference, difference)
        distance = ReduceSum <keepdims = 1>(squared, one)
        near = Sub(tolerances, distance)
        low_res_logits = Mul(near, steep)
        label = ReduceMax <axes = [1], keepdims = 1>(point_labels)
        positive = Abs(label)
        predicted_iou = Mul(ious, positive)
        """,
        **{"zero": [0], "one": [1], "two": [2], "half": np.float32(0.5), "unit": np.float32(1.0)},
        to_unit=np.float32(2.0 / SIZE),
        tolerances=np.float32(tolerances).reshape(1, count, 1, 1),
        steep=np.float32(20.0),
        ious=np.float32([ious]),
    )


def with_semantic_map(model):
    """Let an encoder give a second output: the average colour of 32 x 32 pixels."""
    pool = "AveragePool <kernel_shape = [32, 32], strides = [32, 32]>"
    model.graph.node.extend(nodes(f"semantic_map = {pool}(gbr)"))
    model.graph.output.append(value("semantic_map", [1, 3, SIZE // 32, SIZE // 32]))
    return model


LABELLER = {"input_size": 3, "embedding_size": 3}  # what bundle.yaml says of these
CROPS = {"input": "crops", **LABELLER, "input_size": 16}
FEATURES = {"input": "features", **LABELLER}


def labeller(takes):
    """Embed a mask as the colour of its crop, or of its features: red, green and blue."""
    output = "float[N, 3] label_embedding"
    if takes == "crops":
        text = "label_embedding = ReduceMean <axes = [2, 3], keepdims = 0>(crops)"
        return model_of("float[N, 3, 16, 16] crops", output, text)
    text = "label_embedding = Gather <axis = 1>(features, order)"  # the embedding's are green first
    return model_of("float[N, 3] features", output, text, order=[2, 0, 1])


def with_attention(model):
    """Let an encoder give the attention between 8 x 8 cells by their average colours."""
    side = SIZE // ATTENTION_CELL
    size = f"[{ATTENTION_CELL}, {ATTENTION_CELL}]"
    text = f"""
        cells = AveragePool <kernel_shape = {size}, strides = {size}>(image)
        keys = Reshape(cells, flat)
        queries = Transpose <perm = [0, 2, 1]>(keys)
        scores = MatMul(queries, keys)
        attention = Softmax <axis = 2>(scores)
    """
    add_constants(model.graph, flat=[1, 3, side * side])
    model.graph.node.extend(nodes(text))
    model.graph.output.append(value("attention", [1, side**2, side**2]))
    return model


def image_predictor():
    """Give the confidence of `prompt_predictor` without the embedding, and extents beside it.

    Extents are the average colour of each cell, red before green and blue, then the confidence.
    """
    text = f"""
        pooled = {POOL}(image)
        red = Slice(pooled, start, end, axis)
        confidence_map = Sigmoid(red)
        extent_map = Concat <axis = 1>(pooled, confidence_map)
    """
    outputs = f"{CONFIDENCE}, float[1, 4, {MAP}, {MAP}] extent_map"
    return model_of(IMAGE_INPUT, outputs, text, start=[0], end=[1], axis=[1])


def with_mask_input(model):
    """Let a decoder add the masks that its prompts begin with to their logits."""
    with_last(model, "low_res_logits", "Add", {})
    last = model.graph.node.pop()
    last.input.append("begin")
    add_constants(model.graph, maps_axes=[1, 2, 3])
    text = "has_mask = Unsqueeze(has_mask_input, maps_axes) begin = Mul(mask_input, has_mask)"
    model.graph.node.extend([*nodes(text), last])
    model.graph.input.append(value("mask_input", ["N", 1, MAP, MAP]))
    model.graph.input.append(value("has_mask_input", ["N"]))
    return model


def with_last(model, output, op, constants, **attributes):
    """Return a graph whose output goes through one more operator, first."""
    for node in model.graph.node:
        node.output[:] = ["before" if name == output else name for name in node.output]
    add_constants(model.graph, **constants)
    model.graph.node.append(
        helper.make_node(op, ["before", *constants], [output], name="last", **attributes)
    )
    return model


def value(name, shape):
    """Describe an input or output of 32 bits."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def resized(model, name, sizes):
    """Say that an input or output has other sizes."""
    (found,) = (v for v in [*model.graph.input, *model.graph.output] if v.name == name)
    found.CopyFrom(value(name, sizes))
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


def write_graph(folder, name, model):
    """Write a graph; its entry in bundle.yaml."""
    content = model.SerializeToString()
    (folder / f"{name}.onnx").write_bytes(content)
    return {"file": f"{name}.onnx", "sha256": hashlib.sha256(content).hexdigest()}


def write_tiny_bundle(folder: Path, models=None, **changes) -> Path:
    """Write the bundle, with some graphs or fields of bundle.yaml replaced (None leaves it out)."""
    folder.mkdir(parents=True, exist_ok=True)
    graphs = {}
    for name, make in {**GRAPHS, **dict.fromkeys(models or {})}.items():
        graphs[name] = write_graph(folder, name, (models or {}).get(name) or make())
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
