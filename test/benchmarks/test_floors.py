"""Counting a graph's multiplications, against small graphs counted by hand."""

import numpy as np
import pytest

from aopsam_benchmarks.floors import count_multiplications, measure_rate

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402


def model(nodes, inputs, weights=(), output="y"):
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in weights],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 8
    return made.SerializeToString()


def ones(*shape):
    return np.ones(shape, np.float32)


def count(nodes, inputs, weights=(), shapes=None):
    graph = model(nodes, shapes or inputs, [(name, ones(*shape)) for name, shape in weights])
    arrays = {name: ones(*shape) for name, shape in inputs.items()}
    return count_multiplications(graph, arrays)[0]


@pytest.mark.parametrize(
    ("operator", "attributes", "x", "weights", "expected"),
    [
        # 4 groups of 2 channels to 3 each, kernel 3 x 5; 9 x 10 pixels become 4 x 3 by the stride
        ("Conv", {"group": 4, "strides": [2, 3]}, (1, 8, 9, 10), [(12, 2, 3, 5), (12,)], 96 * 30),
        # each of 6 x 7 pixels of 5 channels gives 3 channels of 2 x 2
        ("ConvTranspose", {"strides": [2, 2]}, (2, 5, 6, 7), [(5, 3, 2, 2)], 2 * 42 * 5 * 3 * 4),
        ("Gemm", {"transA": 0}, (4, 6), [(6, 5)], 4 * 6 * 5),
        ("Gemm", {"transA": 1}, (6, 4), [(6, 5)], 4 * 6 * 5),
        ("Gemm", {"transA": 0}, (0, 6), [(6, 5)], 0),
        # matrices that are stacked and broadcast
        ("MatMul", {}, (2, 3, 4, 5), [(3, 5, 6)], 2 * 3 * 4 * 5 * 6),
    ],
)
def test_products_by_hand(operator, attributes, x, weights, expected):
    named = list(zip("wb", weights, strict=False))
    node = helper.make_node(operator, ["x", *dict(named)], ["y"], **attributes)
    assert count([node], {"x": x}, named) == expected


def test_outputs_are_given_and_masks_of_prompts_become_rows():
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = model([node], {"x": ("n", 5)}, [("w", ones(5, 2))])
    products, outputs = count_multiplications(graph, {"x": ones(4, 3, 5), "unknown": ones(1)})
    assert products == 4 * 3 * 5 * 2
    np.testing.assert_array_equal(outputs["y"], np.full((12, 2), 5.0))


def test_the_machines_rate_is_that_of_large_products():
    assert 1e8 < measure_rate(threads=1, repeats=1) < 1e14
