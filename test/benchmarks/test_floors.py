"""Counting a graph's multiplications, against small graphs counted by hand."""

import numpy as np
import pytest

from aopsam_benchmarks.floors import count_multiplications, measure_rate, multiplications

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


def macs(nodes, inputs, weights=(), shapes=None):
    graph = model(nodes, shapes or inputs, weights)
    arrays = {name: ones(*shape) for name, shape in inputs.items()}
    return count_multiplications(graph, arrays)[0]


def test_convolution_with_groups_stride_and_bias():
    # 4 groups of 2 channels to 3 each, 3 x 5 kernel; 9 x 10 pixels become 4 x 3 with stride 2, 3
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], group=4, strides=[2, 3])
    weights = [("w", ones(12, 2, 3, 5)), ("b", ones(12))]
    assert macs([node], {"x": (1, 8, 9, 10)}, weights) == (12 * 4 * 2) * (2 * 3 * 5)


def test_transposed_convolution():
    # each of 6 x 7 pixels of 5 channels gives 3 channels of 2 x 2
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2])
    assert macs([node], {"x": (2, 5, 6, 7)}, [("w", ones(5, 3, 2, 2))]) == 2 * 6 * 7 * 5 * 3 * 4


@pytest.mark.parametrize(("first", "flip"), [((4, 6), 0), ((6, 4), 1)])
def test_gemm_in_both_directions(first, flip):
    node = helper.make_node("Gemm", ["x", "w"], ["y"], transA=flip)
    assert macs([node], {"x": first}, [("w", ones(6, 5))]) == 4 * 6 * 5


def test_product_of_stacked_matrices_that_are_broadcast():
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    assert macs([node], {"x": (2, 3, 4, 5), "w": (3, 5, 6)}) == 2 * 3 * 4 * 5 * 6


def test_a_dynamic_size_counts_as_it_is_run():
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    for n in (1, 7):
        shapes = {"x": ("n", 5)}
        assert macs([node], {"x": (n, 5)}, [("w", ones(5, 6))], shapes) == n * 5 * 6


def test_only_the_branch_that_runs_counts():
    def branch(name, weight):
        output = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        return helper.make_graph(
            [helper.make_node("MatMul", ["x", weight], [name])], name, [], [output]
        )

    condition = numpy_helper.from_array(np.array(True), "yes")
    nodes = [
        helper.make_node("Constant", [], ["yes"], value=condition),
        helper.make_node(
            "If", ["yes"], ["y"], then_branch=branch("a", "small"), else_branch=branch("b", "large")
        ),
    ]
    weights = [("small", ones(5, 2)), ("large", ones(5, 2000))]
    assert macs(nodes, {"x": (3, 5)}, weights) == 3 * 5 * 2


def test_sums_over_nodes_and_leaves_out_what_is_no_product():
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w"], ["c"]),
        helper.make_node("Add", ["c", "x"], ["y"]),
    ]
    assert macs(nodes, {"x": (3, 4)}, [("w", ones(4, 4))]) == 2 * 3 * 4 * 4


def test_outputs_are_given_and_masks_of_prompts_become_rows():
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = model([node], {"x": ("n", 5)}, [("w", ones(5, 2))])
    count, outputs = count_multiplications(graph, {"x": ones(4, 3, 5), "unknown": ones(1)})
    assert count == 4 * 3 * 5 * 2
    np.testing.assert_array_equal(outputs["y"], np.full((12, 2), 5.0))


def test_empty_product():
    assert multiplications("Gemm", [(0, 5), (5, 3)], [(0, 3)]) == 0


def test_the_machines_rate_is_that_of_large_products():
    assert 1e8 < measure_rate(threads=1, repeats=1) < 1e14
