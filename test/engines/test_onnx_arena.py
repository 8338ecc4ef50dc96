"""All graphs on the processor share one arena, and give it back."""

import subprocess
import sys

import onnx
import pytest
from onnx import TensorProto, helper

from aopsam_ros.engines import onnx_arena
from aopsam_ros.engines.onnx_arena import shrink_arena

MB = 1 << 20
BETWEEN = 64 * MB  # what the graph below needs between its input and its output
SESSIONS = 4
# In a process of its own: in this one, memory that others have freed may be used.
RUN = """
import os, sys
from pathlib import Path
import numpy as np
import onnxruntime as ort
from aopsam_ros.engines.onnx_arena import share_arena, shrink_arena

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def make():
    options = ort.SessionOptions()
    options.enable_mem_pattern = False
    share_arena(options)
    return ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])

shrink_arena()
before = resident()
sessions = [make() for _ in range(int(sys.argv[2]))]
totals = [session.run(None, {"x": np.array([0.5], np.float32)})[0] for session in sessions]
used = resident() - before
sessions.clear()
shrink_arena()
print(used, resident() - before, *totals)
"""


@pytest.fixture
def graph(tmp_path):
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
    file = tmp_path / "wide.onnx"
    onnx.save(helper.make_model(made, opset_imports=opset, ir_version=8), file)
    return file


def test_sessions_share_what_they_need_and_give_it_back(graph):
    command = [sys.executable, "-c", RUN, str(graph), str(SESSIONS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    used, left, *totals = map(float, done.stdout.split())
    assert totals == [BETWEEN // 4 * 0.5] * SESSIONS
    assert BETWEEN <= used < 2 * BETWEEN
    assert left < BETWEEN / 2


def test_the_smallest_graph_is_what_its_comment_says():
    model = onnx.load_from_string(onnx_arena._SMALLEST_GRAPH)
    onnx.checker.check_model(model)
    (node,) = model.graph.node
    assert (node.op_type, list(node.input), list(node.output)) == ("Identity", ["x"], ["y"])


def test_failing_to_shrink_is_no_failure(monkeypatch):
    monkeypatch.setattr(onnx_arena, "_SMALLEST_GRAPH", b"damaged")
    shrink_arena()
