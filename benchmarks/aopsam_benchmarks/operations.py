"""How much work a graph is: multiplications, and the bytes that have to move in any case.

Shapes are those that a run sees, so that dynamic sizes and branches count as they are; inferring
them from the file leaves many of these graphs' products without a size.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

Shapes = Sequence[tuple[int, ...]]
COUNTED = ("Conv", "ConvTranspose", "MatMul", "Gemm")


@dataclass(frozen=True)
class Work:
    """What a stage cannot do without.

    Args:
        macs: multiplications, each with an addition.
        moved: bytes read and written once: inputs, outputs, weights.
    """

    macs: float = 0.0
    moved: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.macs + other.macs, self.moved + other.moved)


def graph_work(graph: bytes, inputs: Mapping[str, NDArray[Any]]) -> Work:
    """Count a graph's work for these inputs.

    Only products count as operations. Bytes are those of the file, which is nearly all weights, of
    the inputs and of the outputs: what is between the layers could stay in a cache.

    Args:
        graph: content of an ONNX file.
        inputs: by name.
    """
    with tempfile.TemporaryDirectory() as folder:
        session = ort.InferenceSession(
            graph, _plain_and_profiled(folder), providers=["CPUExecutionProvider"]
        )
        outputs = session.run(None, dict(inputs))
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    arrays = [*inputs.values(), *(np.asarray(output) for output in outputs)]
    return Work(
        macs=float(sum(_products(events))),
        moved=float(len(graph) + sum(array.nbytes for array in arrays)),
    )


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
            sizes = (_shapes(facts[f"{side}_type_shape"]) for side in ("input", "output"))
            yield multiplications(facts["op_name"], *sizes)


def _shapes(described: Sequence[Mapping[str, Sequence[int]]]) -> list[tuple[int, ...]]:
    """Read `[{"float": [1, 3]}, ...]`."""
    return [tuple(next(iter(entry.values()))) for entry in described]


def multiplications(operator: str, inputs: Shapes, outputs: Shapes) -> int:
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
