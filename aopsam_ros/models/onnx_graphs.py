"""Exporting a torch module as an ONNX graph, compared with torch."""

import itertools
import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import ModelProto
from torch import Tensor, nn

from aopsam_ros.errors import BundleError
from aopsam_ros.models.stored_weights import halve_weights, list_weights, save_graph

OPSET = 17
LARGEST_DIFFERENCE = 1e-3  # see `largest_difference`


@dataclass(frozen=True)
class GraphPlan:
    """A module to export, with names, sample inputs and dynamic axes of its graph.

    Args:
        name: of the graph; the file is `<name>.onnx`.
        module: what to export.
        outputs: their names.
        samples: inputs by name; the first is traced, all are compared. Where they differ in a
            dynamic size, the comparison shows that the size is dynamic.
        dynamic: names of the axes that may have any size, by input or output.
    """

    name: str
    module: nn.Module
    outputs: tuple[str, ...]
    samples: Sequence[Mapping[str, Tensor]]
    dynamic: Mapping[str, Mapping[int, str]]


@dataclass(frozen=True)
class ExportedGraph:
    """A graph's outputs' shapes for the first sample, and how far it is from torch."""

    shapes: Mapping[str, tuple[int, ...]]
    difference: float  # see `largest_difference`


def export_graph(plan: GraphPlan, folder: Path) -> ExportedGraph:
    """Write a graph and compare it with torch in ONNX Runtime.

    The TorchScript exporter is used: the newer one gave graphs that ran four times slower.

    Raises:
        BundleError: if the `largest_difference` over all samples and outputs is above 1e-3.
    """
    path = folder / f"{plan.name}.onnx"
    expected = _run_module(plan)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        # Beyond 2 GB the exporter puts every weight into a file of its own.
        traced = Path(temporary) / path.name
        _trace(plan, traced)
        model = onnx.load(str(traced))
    _declare_sizes(model, plan, expected[0])
    list_weights(model, plan.module)
    halve_weights(model)
    save_graph(model, path)
    del model
    onnx.checker.check_model(str(path), full_check=True)  # first: a run's memory may linger
    outputs = run_graph(path, plan.samples)
    shapes = {name: array.shape for name, array in zip(plan.outputs, outputs[0], strict=True)}
    return ExportedGraph(shapes, _compare(path.name, outputs, expected))


def _run_module(plan: GraphPlan) -> list[list[NDArray[np.float32]]]:
    """Return the module's outputs for each sample."""
    plan.module.eval()
    found = []
    for sample in plan.samples:
        with torch.no_grad():
            outputs = as_tuple(plan.module(*sample.values()))
        found.append([output.numpy() for output in outputs])
    return found


def as_tuple(tensors: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return what a module gave as a tuple, also of one."""
    return tensors if isinstance(tensors, tuple) else (tensors,)


def _trace(plan: GraphPlan, path: Path) -> None:
    """Write the graph as the exporter leaves it."""
    first = plan.samples[0]
    # Without gradients, for which every layer's attention would be kept: 7 of SAM ViT-B's 9 GB.
    with warnings.catch_warnings(), torch.no_grad():
        # About sizes fixed by tracing and the newer exporter; the comparison below decides.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            plan.module,
            tuple(first.values()),
            str(path),
            input_names=list(first),
            output_names=list(plan.outputs),
            dynamic_axes={name: dict(axes) for name, axes in plan.dynamic.items()},
            opset_version=OPSET,
            dynamo=False,
        )


def _declare_sizes(
    model: ModelProto, plan: GraphPlan, outputs: Sequence[NDArray[np.float32]]
) -> None:
    """Declare the outputs' fixed sizes, which the exporter may lose beside dynamic ones."""
    for output, array in zip(model.graph.output, outputs, strict=True):
        dynamic = plan.dynamic.get(output.name, {})
        for axis, dimension in enumerate(output.type.tensor_type.shape.dim):
            if axis not in dynamic:
                dimension.dim_value = array.shape[axis]


def run_graph(
    path: Path, samples: Sequence[Mapping[str, Tensor]]
) -> list[list[NDArray[np.float32]]]:
    """Run a graph on a CPU; return its outputs for each sample."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return [session.run(None, {n: value.numpy() for n, value in s.items()}) for s in samples]


def largest_difference(
    found: Iterable[NDArray[np.float32]], expected: Iterable[NDArray[np.float32]]
) -> float:
    """Return the largest absolute difference of arrays, of large ones as a share of the largest.

    Rounding grows with the values: logits of a trained SAM are in the hundreds, and 32 bits leave
    them as far from the exact ones as 1e-3. Where values stay within 1 the difference is absolute.
    NaN or infinity in either gives NaN or infinity.
    """
    with np.errstate(invalid="ignore"):
        each = [
            np.abs(a - b).max() / max(1.0, np.abs(b).max())
            for a, b in zip(found, expected, strict=True)
        ]
    return float(np.max(each))  # unlike max(), propagates NaN


def _compare(
    file: str,
    results: Sequence[Sequence[NDArray[np.float32]]],
    expected: Sequence[Sequence[NDArray[np.float32]]],
) -> float:
    worst = largest_difference(itertools.chain(*results), itertools.chain(*expected))
    if not worst <= LARGEST_DIFFERENCE:
        raise BundleError(f"{file}: differs from torch by {worst:.2g}, more than 0.001")
    return worst
