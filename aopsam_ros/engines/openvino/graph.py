"""Graphs of a bundle, read and compiled by OpenVINO."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.bundle.signatures import Described, Shape
from aopsam_ros.engines.base import FP32
from aopsam_ros.engines.openvino.api import BF16, OpenVino, reason
from aopsam_ros.engines.openvino.prompts import cut_prompts
from aopsam_ros.errors import EngineError, VerificationError

_SIZES_KEPT = 8  # of a graph's; a camera has one, three layers of crops up to six


class CompiledGraph:
    """A compiled graph, for one call at a time."""

    def __init__(self, openvino: OpenVino, model: Any, precision: str = FP32) -> None:  # noqa: ANN401
        """Compile a model.

        Args:
            openvino: that compiles.
            model: from `read_model`; with "bf16" one that takes prompts is changed, and must not be
                used again.
            precision: "fp32", or "bf16" for all but what is made of prompts alone.

        Raises:
            VerificationError: if OpenVINO does not compute in "bf16" on this processor.
        """
        self._openvino = openvino
        self._prompts: Any = None
        cut = cut_prompts(openvino.module, model) if precision == BF16 else None
        if cut is not None:
            self._prompts = openvino.compile(cut[0], FP32).create_infer_request()
        compiled = openvino.compile(model if cut is None else cut[1], precision)
        taken = compiled.get_property("INFERENCE_PRECISION_HINT")
        if precision == BF16 and taken != openvino.module.Type.bf16:
            raise VerificationError(f"OpenVINO computes in {taken.get_type_name()} here")
        self._request = compiled.create_infer_request()
        self._inputs = {name for value in compiled.inputs for name in value.get_names()}
        self._outputs = compiled.outputs
        self._held: list[Any] = []

    def run(self, inputs: Mapping[str, Any]) -> dict[str, NDArray[np.float32]]:
        """Run the graph on arrays by name, which are not copied; it may have no use for some.

        Returns:
            New arrays, by each name of an output.
        """
        module = self._openvino.module
        given = {
            name: module.Tensor(_writable(array), shared_memory=True)
            for name, array in inputs.items()
            if name in self._inputs
        }
        sizes = ((v.get_any_name(), v.get_partial_shape()) for v in self._outputs)
        known = {
            name: module.Tensor(module.Type.f32, module.Shape(tuple(size.to_shape())))
            for name, size in sizes
            if size.is_static
        }
        self._held = [given, known]  # the request points at their memory until it gets others
        if self._prompts is not None:
            self._run_prompts(given)
        for name, tensor in {**given, **known}.items():
            self._request.set_tensor(name, tensor)
        self._request.infer()
        arrays: dict[str, NDArray[np.float32]] = {}
        for value in self._outputs:
            tensor = known.get(value.get_any_name())
            # Memory that OpenVINO chose is written to by the next run.
            array = self._request.get_tensor(value).data.copy() if tensor is None else tensor.data
            arrays |= dict.fromkeys(value.get_names(), array)
        return arrays

    def _run_prompts(self, given: Mapping[str, Any]) -> None:
        """Run the part that was cut out, and hand its outputs to the rest."""
        for value in self._prompts.model_inputs:
            self._prompts.set_tensor(value, given[value.get_any_name()])
        self._prompts.infer()
        count = len(self._prompts.model_outputs)
        first = len(self._request.model_inputs) - count
        for index in range(count):
            bridge = self._prompts.get_output_tensor(index)
            self._request.set_input_tensor(first + index, bridge)


class SizedGraph:
    """A graph that is compiled for the sizes of its inputs, as they come; the last few are kept.

    A size that is known takes a quarter off the time of `nano`'s encoder. To compile it takes half
    a second.
    """

    def __init__(
        self,
        openvino: OpenVino,
        model: Any,  # noqa: ANN401
        precision: str,
        sizes: Mapping[str, Shape],
    ) -> None:
        """Compile a model from `read_model` for the first sizes, by its inputs' names."""
        self._openvino = openvino
        self._model = model
        self._precision = precision
        self._names = [value.get_any_name() for value in model.inputs]
        self._graphs: dict[tuple[Shape, ...], CompiledGraph] = {}
        self.prepare(sizes)

    def prepare(self, sizes: Mapping[str, Shape]) -> None:
        """Compile the model for sizes of its inputs, by their names, where it is not."""
        self._graph(tuple(sizes[name] for name in self._names))

    def run(self, inputs: Mapping[str, Any]) -> dict[str, NDArray[np.float32]]:
        """Run the graph; see `CompiledGraph`."""
        return self._graph(tuple(tuple(inputs[name].shape) for name in self._names)).run(inputs)

    def _graph(self, sizes: tuple[Shape, ...]) -> CompiledGraph:
        graph = self._graphs.pop(sizes, None)
        if graph is None:
            if len(self._graphs) == _SIZES_KEPT:
                del self._graphs[next(iter(self._graphs))]
            reshape(self._openvino, self._model, dict(zip(self._names, sizes, strict=True)))
            graph = CompiledGraph(self._openvino, self._model, self._precision)
        self._graphs[sizes] = graph  # the last one used is the last one
        return graph


def read_model(openvino: OpenVino, content: bytes, file: str) -> Any:  # noqa: ANN401
    """Read an ONNX graph.

    Raises:
        EngineError: if it is not ONNX, or OpenVINO cannot read it.
    """
    try:
        return openvino.core.read_model(content)
    except Exception as error:
        raise EngineError(f"{file}: OpenVINO cannot load it: {reason(error)}") from error


def reshape(openvino: OpenVino, model: Any, sizes: Mapping[str, Shape]) -> None:  # noqa: ANN401
    """Give inputs of a model other sizes, by their names; None is any."""
    partial = openvino.module.PartialShape
    model.reshape(
        {
            name: partial([-1 if size is None else size for size in shape])
            for name, shape in sizes.items()
        }
    )


def describe_ports(values: Any) -> Described:  # noqa: ANN401
    """Describe inputs or outputs by each of their names."""
    found: dict[str, tuple[str, list[object]]] = {}
    for value in values:
        kind = value.get_element_type().get_type_name()
        shape = value.get_partial_shape()
        sizes = [size.get_length() if size.is_static else str(size) for size in shape]
        kind = "tensor(float)" if kind == "f32" else f"tensor({kind})"
        found |= dict.fromkeys(sorted(value.get_names()), (kind, sizes))
    return found


def _writable(array: NDArray[Any]) -> NDArray[np.float32]:
    """Return contiguous float32 that a tensor may wrap; it refuses memory that is read-only."""
    array = np.ascontiguousarray(array, np.float32)
    return array if array.flags.writeable else array.copy()
