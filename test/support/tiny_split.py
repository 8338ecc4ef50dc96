"""The hand-made decoder in three parts, with weights of prompts or of masks."""

import hashlib

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.utils import Extractor

from support import tiny_bundle
from support.tiny_bundle import MAP, edit, write_tiny_bundle

COLOURS, POINTS = "colours", ["point_coords", "point_labels"]


def parts(is_per_mask=False, decoder=None):
    """Cut the whole decoder where its parts meet."""
    whole = onnx.shape_inference.infer_shapes(decoder or tiny_bundle.mask_decoder())
    cut = Extractor(whole).extract_model
    found = {
        "decoder_frame": cut(["embedding"], [COLOURS]),
        "decoder_prompts": cut([COLOURS, *POINTS], ["predicted_iou", "own"]),
        "decoder_masks": cut([COLOURS, "own"], ["low_res_logits"]),
    }
    if is_per_mask:
        (tolerances,) = (i for i in whole.graph.initializer if i.name == "tolerances")
        _weigh_masks(found["decoder_prompts"].graph, numpy_helper.to_array(tolerances).ravel())
        found["decoder_masks"] = _render_one_by_one()
    return found


def _weigh_masks(graph, tolerances):
    """Give each mask weights: the prompt's colour and the mask's tolerance."""
    count = len(tolerances)
    constants = {
        "each": np.zeros((1, count, 1), np.float32),
        "tolerance": tolerances.reshape(1, count, 1),
        "first": np.array([0]),
        "next": np.array([1]),
        "last": np.array([2]),
        "nothing": np.float32(0.0),
        "places": np.array([-1, 1, 2]),
    }
    graph.initializer.extend(tiny_bundle._constant(n, v) for n, v in constants.items())
    graph.node.extend(
        [
            helper.make_node("Reshape", ["own", "places"], ["colour"]),
            helper.make_node("Add", ["colour", "each"], ["colour_each"]),
            helper.make_node("Slice", ["colour_each", "first", "next", "last"], ["one"]),
            helper.make_node("Mul", ["one", "nothing"], ["zeros"]),
            helper.make_node("Add", ["zeros", "tolerance"], ["tolerance_each"]),
            helper.make_node("Concat", ["colour_each", "tolerance_each"], ["codes"], axis=2),
        ]
    )
    del graph.output[1:]
    graph.output.append(tiny_bundle._value("codes", ["N", count, 3]))


def _render_one_by_one():
    constants = {
        "first": np.array([0]), "second": np.array([2]), "third": np.array([3]),
        "axis": np.array([1]), "maps": np.array([2, 3]), "steep": np.float32(20.0),
    }  # fmt: skip
    nodes = [
        helper.make_node("Slice", ["codes", "first", "second", "axis"], ["colour"]),
        helper.make_node("Slice", ["codes", "second", "third", "axis"], ["tolerance"]),
        helper.make_node("Unsqueeze", ["colour", "maps"], ["at"]),
        helper.make_node("Unsqueeze", ["tolerance", "axis"], ["reach"]),
        helper.make_node("Sub", [COLOURS, "at"], ["difference"]),
        helper.make_node("Mul", ["difference", "difference"], ["squared"]),
        helper.make_node("ReduceSum", ["squared", "axis"], ["distance"], keepdims=0),
        helper.make_node("Sub", ["reach", "distance"], ["near"]),
        helper.make_node("Mul", ["near", "steep"], ["low_res_logits"]),
    ]
    return tiny_bundle._model(
        nodes,
        [
            tiny_bundle._value(COLOURS, [1, 2, MAP, MAP]),
            tiny_bundle._value("codes", ["n", 3]),
        ],
        [tiny_bundle._value("low_res_logits", ["n", MAP, MAP])],
        [tiny_bundle._constant(name, value) for name, value in constants.items()],
    )


def write_split_bundle(folder, split=None, is_per_mask=False, **changes):
    """Write the hand-made bundle with the decoder in three parts, some of them replaced."""
    write_tiny_bundle(folder, **changes)
    listed = {}
    for name, model in {**parts(is_per_mask), **(split or {})}.items():
        content = model.SerializeToString()
        (folder / f"{name}.onnx").write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        listed[name] = {"file": f"{name}.onnx", "sha256": digest}
    edit(folder, lambda fields: fields.update(split_graphs=listed))
    return folder
