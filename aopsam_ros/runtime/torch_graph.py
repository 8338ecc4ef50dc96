"""An ONNX graph made ready for torch: checked, every constant part of it computed."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from aopsam_ros.errors import BundleError, EngineError
from aopsam_ros.runtime.signatures import Signature, check_graph
from aopsam_ros.runtime.torch_fusion import fused
from aopsam_ros.runtime.torch_nodes import Body, Node, evaluate, first_line
from aopsam_ros.runtime.torch_operator import Operator, UnsupportedError
from aopsam_ros.runtime.torch_operators import OPERATORS

OPSETS = range(13, 18)
BRANCH = "If"
_DOMAINS = ("", "ai.onnx")
# Element types as they are called in messages, by ONNX's numbers.
_TYPES = {1: "float", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 11: "double"}


@dataclass(frozen=True)
class TorchGraph:
    """A graph with the file it came from, for messages, and its inputs in order."""

    file: str
    inputs: tuple[str, ...]
    body: Body

    def error(self, node: Node, reason: str) -> BundleError:
        """Return the error for a node that this engine cannot run."""
        return _error(self.file, node.op, node.name, reason)


def load_graph(content: bytes, file: str, signature: Signature) -> TorchGraph:
    """Read an ONNX graph and compute what is constant in it.

    Args:
        content: the file's, checked against its hash.
        file: its path, for messages.
        signature: what it must take and give.

    Raises:
        EngineError: if the onnx package is missing.
        BundleError: if it is no valid ONNX, has another signature, or holds an operator, or an
            operator's attribute, that this engine does not know.
    """
    model = _parse(content, file)
    _check_opset(model, file)
    graph = model.graph
    weights = {item.name for item in graph.initializer}
    inputs = {item.name: _described(item) for item in graph.input if item.name not in weights}
    outputs = {item.name: _described(item) for item in graph.output}
    check_graph(file, "input", signature.inputs, inputs)
    check_graph(file, "output", signature.outputs, outputs)
    body = replace(_body(graph, file), outputs=tuple(signature.outputs))
    ready = _channels_last(fused(_folded(body, file)))
    return TorchGraph(file, tuple(signature.inputs), _with_drops(ready))


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
        _refuse_external(model.graph)
        onnx.checker.check_model(model)
    except Exception as error:
        raise BundleError(f"{file}: not a valid ONNX graph: {first_line(error)}") from error
    return model


def _refuse_external(graph: Any) -> None:  # noqa: ANN401
    """Refuse weights in other files: a bundle's hashes do not cover them."""
    for item in graph.initializer:
        if item.external_data or item.data_location:
            raise ValueError(f"{item.name} is stored in another file")


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


def _body(graph: Any, file: str) -> Body:  # noqa: ANN401
    constants = {item.name: _tensor(item) for item in graph.initializer}
    nodes = [_node(proto, file) for proto in graph.node]
    return Body(nodes, constants, tuple(item.name for item in graph.output))


def _node(proto: Any, file: str) -> Node:  # noqa: ANN401
    op = proto.op_type if proto.domain in _DOMAINS else f"{proto.domain}.{proto.op_type}"
    names = op, proto.name, tuple(proto.input), tuple(proto.output)
    if op == BRANCH:
        bodies = {item.name: _body(item.g, file) for item in proto.attribute}
        branches = bodies["then_branch"], bodies["else_branch"]
        return Node(*names, compute=_never, operator=Operator(_never), bodies=branches)
    known = OPERATORS.get(op)
    if known is None:
        raise _error(file, op, proto.name, "the operator is unknown")
    attributes = {item.name: _attribute(item) for item in proto.attribute}
    unknown = set(attributes) - known.attributes
    if unknown:
        raise _error(file, op, proto.name, f"unknown attribute {min(unknown)}")
    if known.outputs is None:
        attributes["outputs"] = len(proto.output)
    elif any(proto.output[known.outputs :]):
        raise _error(file, op, proto.name, f"only the first output of {len(proto.output)}")
    return Node(*names, functools.partial(known.compute, **attributes), known)


def _never(*_: object) -> Tensor:
    raise AssertionError("branches are followed, not computed")


def _attribute(proto: Any) -> Any:  # noqa: ANN401
    import onnx

    value = onnx.helper.get_attribute_value(proto)
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, onnx.TensorProto):
        return _tensor(value)
    return list(value) if isinstance(value, Iterable) else value


def _tensor(proto: Any) -> Tensor:  # noqa: ANN401
    import onnx

    # A copy: the array is a read-only view of the file's content.
    return torch.tensor(onnx.numpy_helper.to_array(proto))


def _folded(body: Body, file: str) -> Body:
    """Compute the nodes that depend on constants only."""
    known, rest = dict(body.constants), []
    for node in body.nodes:
        if node.bodies or not all(name in known for name in node.inputs if name):
            rest.append(node)
            continue
        try:
            values = evaluate(node, [known.get(name) for name in node.inputs])
        except (UnsupportedError, RuntimeError, ValueError, TypeError, IndexError) as error:
            raise _error(file, node.op, node.name, first_line(error)) from error
        known.update(zip(node.outputs, values, strict=True))
    return Body(rest, known, body.outputs)


def _channels_last(body: Body) -> Body:
    """Store the weights of convolutions with the channels innermost, as fast kernels want them."""
    constants = dict(body.constants)
    for node in body.nodes:
        weight = constants.get(node.inputs[1]) if node.op == "Conv" else None
        if weight is not None and weight.ndim == 4:
            constants[node.inputs[1]] = weight.contiguous(memory_format=torch.channels_last)
    return replace(body, constants=constants)


def _with_drops(body: Body) -> Body:
    """Note at each node which values nothing after it uses."""
    alive, nodes = set(body.outputs), []
    for node in reversed(body.nodes):
        touched = node.uses() | set(node.outputs) - {""}
        nodes.append(replace(node, dropped=tuple(sorted(touched - alive))))
        alive |= touched
    return replace(body, nodes=nodes[::-1])


def _error(file: str, op: str, name: str, reason: str) -> BundleError:
    return BundleError(
        f"{file}: engine 'torch' cannot run operator {op} (node '{name}'): {reason}; "
        "use engine 'onnxruntime'"
    )
