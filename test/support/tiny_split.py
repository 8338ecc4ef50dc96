"""The hand-made decoder in three parts, with weights of prompts or of masks."""

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.utils import Extractor

from support import tiny_bundle
from support.tiny_bundle import (
    MAP,
    add_constants,
    edit,
    model_of,
    nodes,
    value,
    write_graph,
    write_tiny_bundle,
)

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
    add_constants(
        graph,
        each=np.zeros((1, count, 1), np.float32),
        tolerance=tolerances.reshape(1, count, 1),
        **{"first": [0], "next": [1], "last": [2], "places": [-1, 1, 2]},
        nothing=np.float32(0.0),
    )
    text = """
        colour = Reshape(own, places)
        colour_each = Add(colour, each)
        one = Slice(colour_each, first, next, last)
        zeros = Mul(one, nothing)
        tolerance_each = Add(zeros, tolerance)
        codes = Concat <axis = 2>(colour_each, tolerance_each)
    """
    graph.node.extend(nodes(text))
    del graph.output[1:]
    graph.output.append(value("codes", ["N", count, 3]))


def _render_one_by_one():
    text = """
        colour = Slice(codes, first, second, axis)
        tolerance = Slice(codes, second, third, axis)
        at = Unsqueeze(colour, maps)
        reach = Unsqueeze(tolerance, axis)
        difference = Sub(colours, at)
        squared = Mul(difference, difference)
        distance = ReduceSum <keepdims = 0>(squared, axis)
        near = Sub(reach, distance)
        low_res_logits = Mul(near, steep)
    """
    return model_of(
        f"float[1, 2, {MAP}, {MAP}] {COLOURS}, float[n, 3] codes",
        f"float[n, {MAP}, {MAP}] low_res_logits",
        text,
        **{"first": [0], "second": [2], "third": [3], "axis": [1], "maps": [2, 3]},
        steep=np.float32(20.0),
    )


def write_split_bundle(folder, split=None, is_per_mask=False, **changes):
    """Write the hand-made bundle with the decoder in three parts, some of them replaced."""
    write_tiny_bundle(folder, **changes)
    models = {**parts(is_per_mask), **(split or {})}
    listed = {name: write_graph(folder, name, model) for name, model in models.items()}
    edit(folder, lambda fields: fields.update(split_graphs=listed))
    return folder
