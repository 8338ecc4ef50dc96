"""The least time that a graph could take: its multiplications at the machine's best rate.

Shapes are those that a run sees, so that dynamic sizes and branches count as they are; inferring
them from the file leaves many of these graphs' products without a size.
"""

from __future__ import annotations

import itertools
import json
import math
import tempfile
import timeit
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

COUNTED = ("Conv", "ConvTranspose", "MatMul", "Gemm")
SIDE = 1024  # of the matrices: beyond it the rate no longer rises on processors
PRODUCTS = 8  # in one graph, so that handing over its input does not count
REPEATS = 7


def count_multiplications(
    graph: bytes | str, inputs: Mapping[str, NDArray[Any]]
) -> tuple[int, dict[str, NDArray[Any]]]:
    """Run a graph; return the multiplications of its products, and its outputs by name.

    Args:
        graph: content of an ONNX file, or its path.
        inputs: by name; those that the graph has no use for are left out. An array `[N, 3, ...]`
            is taken as rows `[3 N, ...]` where the graph takes one axis less.
    """
    with tempfile.TemporaryDirectory() as folder:
        session = ort.InferenceSession(
            graph, _plain_and_profiled(folder), providers=["CPUExecutionProvider"]
        )
        needed = {node.name: inputs[node.name] for node in session.get_inputs()}
        for node in session.get_inputs():
            array = needed[node.name]
            if array.ndim > len(node.shape):
                needed[node.name] = array.reshape(-1, *array.shape[2:])
        outputs = session.run(None, needed)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    names = [node.name for node in session.get_outputs()]
    return sum(_products(events)), dict(zip(names, outputs, strict=True))


def _plain_and_profiled(folder: str) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(Path(folder) / "run")
    # As it is written: fused operators have names and shapes of their own.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    # A weight that was packed for its kernel is no input of the node any more.
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.log_severity_level = 3
    return options


def _products(events: Sequence[Mapping[str, Any]]) -> Iterator[int]:
    """Yield the multiplications of each node that ran."""
    for event in events:
        facts = event.get("args", {})
        if facts.get("op_name") in COUNTED and "output_type_shape" in facts:
            sizes = [  # of [{"float": [1, 3]}, ...]
                [tuple(*entry.values()) for entry in facts[f"{side}_type_shape"]]
                for side in ("input", "output")
            ]
            yield multiplications(facts["op_name"], *sizes)


def multiplications(
    operator: str, inputs: Sequence[tuple[int, ...]], outputs: Sequence[tuple[int, ...]]
) -> int:
    """Count one node's multiplications from its shapes; an addition of a bias is none.

    Args:
        operator: one of `COUNTED`.
        inputs: shapes of its inputs; the second is the weight's.
        outputs: shape of its output.
    """
    first, second, result = inputs[0], inputs[1], outputs[0]
    if operator == "Conv":  # each output sums over a kernel: weight [out, in / groups, *kernel]
        return math.prod(result) * math.prod(second[1:])
    if operator == "ConvTranspose":  # each input is spread by one: [in, out / groups, *kernel]
        return math.prod(first) * math.prod(second[1:])
    if operator == "Gemm":  # [m, k] or transposed; the result is [m, n]
        return math.prod(result) * (math.prod(first) // max(1, result[0]))
    return math.prod(result) * first[-1]


def measure_rate(threads: int, repeats: int = REPEATS) -> float:
    """Return multiplications a second of large float32 matrix products in ONNX Runtime on the CPU.

    Args:
        threads: 0 takes all cores.
        repeats: the best counts; more find a quieter moment.
    """
    from onnx import TensorProto, helper, numpy_helper

    matrix = np.random.default_rng(0).standard_normal((SIDE, SIDE), np.float32) / SIDE**0.5
    names = [f"product{i}" for i in range(PRODUCTS + 1)]
    shape = [SIDE, SIDE]
    graph = helper.make_graph(
        [helper.make_node("MatMul", [a, "matrix"], [b]) for a, b in itertools.pairwise(names)],
        "products",
        [helper.make_tensor_value_info(names[0], TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(names[-1], TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(matrix, "matrix")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    inputs = {names[0]: matrix}
    best = min(timeit.repeat(lambda: session.run(None, inputs), number=1, repeat=repeats + 1))
    return PRODUCTS * SIDE**3 / best
