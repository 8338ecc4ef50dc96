"""MobileSAM with random weights, exported: its description and its graphs, in plain operators.

That they compute what torch does is tested in test_open_sides and test_split.
"""

import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from aopsam_ros.bundle.loading import SPLIT, load_bundle  # noqa: E402

SIZE = 64  # pixels of the small model's image


def graph_of(folder, name):
    """Return a graph with the shapes and types of all its values."""
    loaded = onnx.load(str(folder / f"{name}.onnx"))
    return onnx.shape_inference.infer_shapes(loaded, strict_mode=True, data_prop=True).graph


def sizes_of(values):
    return {
        v.name: [size.dim_param or size.dim_value for size in v.type.tensor_type.shape.dim]
        for v in values
    }


def test_the_description_fits_the_model(exported):
    bundle = load_bundle(exported.folder)
    assert (bundle.name, bundle.image_size, bundle.low_res_mask_size) == ("small", SIZE, SIZE // 4)
    assert bundle.size_divisibility == 16
    assert bundle.embedding_shape == (1, 256, SIZE // 16, SIZE // 16)
    assert (bundle.similarity_channels, bundle.confidence_map_size) == (256, SIZE // 4)
    assert bundle.mean == (123.675, 116.28, 103.53) and bundle.std == (58.395, 57.12, 57.375)
    for graphs in (bundle.graphs, bundle.mixed_graphs):
        assert set(graphs) == {"encoder", "prompt_predictor", "mask_decoder"}
        for graph in [*graphs.values(), *bundle.split_graphs.values()]:
            graph.read()  # and compare its hash


# Nodes whose sizes an engine must compute, and those that repeat_interleave and branches make.
UNWANTED = {
    "OneHot", "Tile", "Loop", "If", "Scan", "Shape", "Size", "Range", "Expand", "ConstantOfShape",
    "NonZero", "Where", "ScatterND", "GatherND", "Resize",
}  # fmt: skip
# They take images that are not square, so they ask for sizes; what is done most often does not.
ASKING = ("encoder", "decoder_frame", "decoder_masks")
WITH_KINDS = [(n, k) for n in ("encoder", "mask_decoder") for k in ("", ".mixed")]


@pytest.mark.parametrize(("name", "kind"), [*WITH_KINDS, *((name, "") for name in SPLIT)])
def test_graphs_hold_plain_operators_only(exported, name, kind):
    nodes = onnx.load(str(exported.folder / f"{name}{kind}.onnx")).graph.node
    operators = {node.op_type for node in nodes}
    assert operators & UNWANTED == ({"Shape"} if name in ASKING else set())
    assert "MatMul" in operators
    assert name in SPLIT or {"LayerNormalization", "Softmax"} <= operators
    assert {node.domain for node in nodes} == {""}


@pytest.mark.parametrize("kind", ["", ".mixed"])
def test_only_sides_prompts_and_points_are_dynamic(exported, kind):
    encoder = graph_of(exported.folder, f"encoder{kind}")
    assert sizes_of(encoder.input) == {"image": [1, 3, "image_2", "image_3"]}
    assert sizes_of(encoder.output) == {"embedding": [1, 256, "embedding_2", "embedding_3"]}
    decoder = graph_of(exported.folder, f"mask_decoder{kind}")
    assert sizes_of(decoder.input) == {
        "embedding": [1, 256, 4, 4],
        "point_coords": ["prompts", "points", 2],
        "point_labels": ["prompts", "points"],
        "mask_input": ["prompts", 1, 16, 16],
        "has_mask_input": ["prompts"],
    }
    assert sizes_of(decoder.output) == {
        "low_res_logits": ["prompts", 4, 16, 16],
        "predicted_iou": ["prompts", 4],
    }
