"""All graphs on the processor share one arena, and give it back."""

import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from aopsam_ros.runtime import onnx_arena
from aopsam_ros.runtime.onnx_arena import share_arena, shrink_arena

MB = 1 << 20
BETWEEN = 64 * MB  # what the graph below needs between its input and its output
SESSIONS = 4


@pytest.fixture(scope="module")
def graph():
    """A graph of one number to one number that needs much memory in between."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [1], [BETWEEN // 4])
    nodes = [
        helper.make_node("Expand", ["x", "shape"], ["many"]),
        helper.make_node("ReduceSum", ["many"], ["y"], keepdims=0),
    ]
    one = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    total = helper.make_tensor_value_info("y", TensorProto.FLOAT, [])
    made = helper.make_graph(nodes, "wide", [one], [total], [shape])
    opset = [helper.make_opsetid("", 13)]
    return helper.make_model(made, opset_imports=opset, ir_version=8).SerializeToString()


def resident():
    """Bytes of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def session_of(graph):
    options = ort.SessionOptions()
    options.enable_mem_pattern = False
    share_arena(options)
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def test_sessions_share_what_they_need_and_give_it_back(graph):
    shrink_arena()
    before = resident()
    sessions = [session_of(graph) for _ in range(SESSIONS)]
    for session in sessions:
        (total,) = session.run(None, {"x": np.array([0.5], np.float32)})
        assert total == BETWEEN // 4 * 0.5
    assert BETWEEN <= resident() - before < 2 * BETWEEN
    del session, sessions
    shrink_arena()
    assert resident() - before < BETWEEN / 2


def test_the_smallest_graph_is_what_its_comment_says():
    model = onnx.load_from_string(onnx_arena._SMALLEST_GRAPH)
    onnx.checker.check_model(model)
    (node,) = model.graph.node
    assert (node.op_type, list(node.input), list(node.output)) == ("Identity", ["x"], ["y"])


def test_failing_to_shrink_is_no_failure(monkeypatch):
    monkeypatch.setattr(onnx_arena, "_SMALLEST_GRAPH", b"damaged")
    shrink_arena()
