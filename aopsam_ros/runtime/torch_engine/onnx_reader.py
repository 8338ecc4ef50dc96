"""Reading ONNX: from a file's bytes to nodes with torch functions, everything in it checked."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from aopsam_ros.errors import BundleError, EngineError
from aopsam_ros.runtime.signatures import Signature, check_graph
from aopsam_ros.runtime.torch_engine.nodes import Body, Node, first_line
from aopsam_ros.runtime.torch_engine.operator import Operator
from aopsam_ros.runtime.torch_engine.operators import OPERATORS

OPSETS = range(13, 18)
BRANCH = "If"
_DOMAINS = ("", "ai.onnx")
# Element types as they are called in messages, by ONNX's numbers.
_TYPES = {1: "float", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 11: "double"}


def read_onnx(content: bytes, file: str, signature: Signature) -> Body:
    """Read an ONNX graph.

    Args:
        content: the file's, checked against its hash.
        file: its path, for messages.
        signature: what the graph must take and give.

    Raises:
        EngineError: if the onnx package is missing.
        BundleError: if it is no valid ONNX, has another signature, keeps weights in other files, or
            holds an operator, or an operator's attribute, that this engine does not know.
    """
    model = _parse(content, file)
    _check_opset(model, file)
    graph = model.graph
    weights = {item.name for item in graph.initializer}
    inputs = {item.name: _described(item) for item in graph.input if item.name not in weights}
    outputs = {item.name: _described(item) for item in graph.output}
    check_graph(file, "input", signature.inputs, inputs)
    check_graph(file, "output", signature.outputs, outputs)
    return replace(_Reader(file).body(graph), outputs=tuple(signature.outputs))


def node_error(file: str, op: str, name: str, reason: str) -> BundleError:
    """Return the error for a node that this engine cannot run."""
    return BundleError(
        f"{file}: engine 'torch' cannot run operator {op} (node '{name}'): {reason}; "
        "use engine 'onnxruntime'"
    )


def _parse(content: bytes, file: str) -> Any:  # noqa: ANN401
    try:
        import onnx
    except ImportError as error:
        raise EngineError(
            f"engine 'torch' reads graphs with the onnx package, which cannot be imported "
            f"({error}); install it with: pip install onnx"
        ) from error
    try:
        model = onnx.load_model_from_string(content)
        onnx.checker.check_model(model)
    except Exception as error:
        raise BundleError(f"{file}: not a valid ONNX graph: {first_line(error)}") from error
    return model


def _check_opset(model: Any, file: str) -> None:  # noqa: ANN401
    for used in model.opset_import:
        if used.domain in _DOMAINS and used.version not in OPSETS:
            raise BundleError(
                f"{file}: operator set {used.version}, but engine 'torch' knows "
                f"{OPSETS[0]} to {OPSETS[-1]}; use engine 'onnxruntime'"
            )


def _described(value: Any) -> tuple[str, list[object]]:  # noqa: ANN401
    """Return a value's element type, as other engines call it, and its sizes."""
    kind = value.type.tensor_type
    name = _TYPES.get(kind.elem_type, f"type {kind.elem_type}")
    sizes = [d.dim_value if d.HasField("dim_value") else d.dim_param for d in kind.shape.dim]
    return f"tensor({name})", sizes


class _Reader:
    """Turns ONNX's own objects into nodes and tensors."""

    def __init__(self, file: str) -> None:
        self.file = file

    def body(self, graph: Any) -> Body:  # noqa: ANN401
        constants = {item.name: self._tensor(item) for item in graph.initializer}
        if graph.sparse_initializer:
            raise BundleError(f"{self.file}: engine 'torch' reads no sparse weights")
        nodes = [self._node(proto) for proto in graph.node]
        return Body(nodes, constants, tuple(item.name for item in graph.output))

    def _node(self, proto: Any) -> Node:  # noqa: ANN401
        op = proto.op_type if proto.domain in _DOMAINS else f"{proto.domain}.{proto.op_type}"
        names = op, proto.name, tuple(proto.input), tuple(proto.output)
        if op == BRANCH:
            bodies = {item.name: self.body(item.g) for item in proto.attribute}
            branches = bodies["then_branch"], bodies["else_branch"]
            return Node(*names, compute=_never, operator=Operator(_never), bodies=branches)
        known = OPERATORS.get(op)
        if known is None:
            raise node_error(self.file, op, proto.name, "the operator is unknown")
        attributes = {item.name: self._attribute(item) for item in proto.attribute}
        unknown = set(attributes) - known.attributes
        if unknown:
            raise node_error(self.file, op, proto.name, f"attribute {min(unknown)} is unknown")
        if known.outputs is None:
            attributes["outputs"] = len(proto.output)
        elif any(proto.output[known.outputs :]):
            raise node_error(
                self.file, op, proto.name, f"its output {known.outputs + 1} is unknown"
            )
        return Node(*names, functools.partial(known.compute, **attributes), known)

    def _attribute(self, proto: Any) -> Any:  # noqa: ANN401
        import onnx

        value = onnx.helper.get_attribute_value(proto)
        if isinstance(value, bytes):
            return value.decode("utf-8")
        if isinstance(value, onnx.TensorProto):
            return self._tensor(value)
        return list(value) if isinstance(value, Iterable) else value

    def _tensor(self, proto: Any) -> Tensor:  # noqa: ANN401
        import onnx

        if onnx.external_data_helper.uses_external_data(proto):
            # Never opened: the bundle's hashes do not cover it, and its path may be any.
            raise BundleError(f"{self.file}: {proto.name} is stored in another file")
        try:
            # A copy: the array is a read-only view of the file's content.
            return torch.tensor(onnx.numpy_helper.to_array(proto))
        except (ValueError, TypeError) as error:
            raise BundleError(
                f"{self.file}: {proto.name} cannot be read: {first_line(error)}"
            ) from error


def _never(*_: object) -> Tensor:
    raise AssertionError("branches are followed, not computed")
