"""A graph in 16 bits, but for what needs 32: for engines that take precisions from the graph.

Strongly typed TensorRT networks have no switch for 16 bits. Converters that turn a whole graph to
16 bits and cast around exceptions also send the points' coordinates through 16 bits, which at 1024
pixels is a raster of half a pixel; so this project has its own.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from aopsam_ros.bundle.signatures import POINTS
from aopsam_ros.errors import BundleError
from aopsam_ros.models.stored_weights import load_graph

# Norms and sums overflow or lose digits in 16 bits, and places to pick values at are coordinates;
# the others take or make 32 bits by definition.
FULL_PRECISION = frozenset(
    {
        "LayerNormalization", "InstanceNormalization", "GroupNormalization", "Softmax",
        "ReduceMean", "ReduceSum", "Pow", "Exp", "Log", "Sin", "Cos",
        "Cast", "ConstantOfShape", "Range", "Resize", "GridSample",
    }
)  # fmt: skip


def write_mixed(path: Path, target: Path) -> None:
    """Convert a float32 graph; inputs, outputs and what depends on prompts alone stay float32.

    Raises:
        BundleError: if a weight does not fit into 16 bits, or the graph has branches or loops.
    """
    model = load_graph(path)
    converted = _Conversion(model, path.name).run()
    onnx.checker.check_model(converted, full_check=True)
    onnx.save(converted, str(target))


class _Conversion:
    """One pass over a graph, which knows every value's precision when it comes to its use."""

    def __init__(self, model: ModelProto, name: str) -> None:
        self.model = model
        self.name = name
        self.floats = _float_values(model)
        weights = model.graph.initializer
        self.constants = {item.name: numpy_helper.to_array(item) for item in weights}
        # Where a float value can be had: (value, in 16 bits) to its name in the new graph.
        self.known = {(item.name, False): item.name for item in model.graph.input}
        self.prompt_values = {item.name for item in model.graph.input if item.name in POINTS}
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []

    def run(self) -> ModelProto:
        for node in self.model.graph.node:
            if not self._absorb(node):
                self._convert(node)
        for output in self.model.graph.output:
            self._value(output.name, half=False)
        old = self.model.graph
        graph = helper.make_graph(self.nodes, old.name, old.input, old.output, self.initializers)
        return helper.make_model(
            graph, opset_imports=self.model.opset_import, ir_version=self.model.ir_version
        )

    def _absorb(self, node: NodeProto) -> bool:
        """Take constants, and copies of constants, out of the nodes."""
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            self.constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        elif node.op_type == "Identity" and node.input[0] in self.constants:
            self.constants[node.output[0]] = self.constants[node.input[0]]
        else:
            return False
        return True

    def _convert(self, node: NodeProto) -> None:
        if any(a.type in (a.GRAPH, a.GRAPHS) for a in node.attribute):
            raise BundleError(f"{self.name}: {node.op_type} cannot be converted to mixed precision")
        half = not (self._is_of_prompts(node) or node.op_type in FULL_PRECISION)
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [self._value(value, half) for value in node.input]
        copy.output[:] = [self._produce(value, half) for value in node.output]
        self.nodes.append(copy)

    def _is_of_prompts(self, node: NodeProto) -> bool:
        values = [v for v in node.input if v and v not in self.constants]
        if not values or not all(value in self.prompt_values for value in values):
            return False
        self.prompt_values.update(node.output)
        return True

    def _produce(self, value: str, half: bool) -> str:
        if value not in self.floats:
            return value
        self.known[value, half] = _name(value, half)
        return self.known[value, half]

    def _value(self, value: str, half: bool) -> str:
        """Return a value's name in the wanted precision; add what makes it."""
        if value in self.constants:
            return self._constant(value, half)
        if value not in self.floats:
            return value
        if (value, half) not in self.known:
            kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
            made_of, name = self.known[value, not half], _name(value, half)
            self.nodes.append(helper.make_node("Cast", [made_of], [name], to=kind))
            self.known[value, half] = name
        return self.known[value, half]

    def _constant(self, value: str, half: bool) -> str:
        array = self.constants[value]
        half = half and array.dtype == np.float32
        if (value, half) not in self.known:
            if half:
                with np.errstate(over="ignore"):
                    array = array.astype(np.float16)
                if not np.isfinite(array).all():
                    raise BundleError(f"{self.name}: {value} does not fit into 16 bits")
            self.known[value, half] = _name(value, half)
            self.initializers.append(numpy_helper.from_array(array, self.known[value, half]))
        return self.known[value, half]


def _name(value: str, half: bool) -> str:
    """Name a value; `_half` marks 16 bits, so that graph outputs keep their names."""
    return f"{value}_half" if half else value


def _float_values(model: ModelProto) -> set[str]:
    """Return the names of all float32 values that nodes give or take."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = [*graph.input, *graph.value_info, *graph.output]
    return {v.name for v in values if v.type.tensor_type.elem_type == TensorProto.FLOAT}
