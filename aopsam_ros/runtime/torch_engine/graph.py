"""A graph made ready for torch: every constant part computed, patterns fused, uses counted."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from aopsam_ros.errors import BundleError
from aopsam_ros.runtime.signatures import Signature
from aopsam_ros.runtime.torch_engine.fusion import fused
from aopsam_ros.runtime.torch_engine.nodes import Body, Node, evaluate, first_line
from aopsam_ros.runtime.torch_engine.onnx_reader import node_error, read_onnx
from aopsam_ros.runtime.torch_engine.operator import UnsupportedError


@dataclass(frozen=True)
class TorchGraph:
    """A graph with the file it came from, for messages, and its inputs in order."""

    file: str
    inputs: tuple[str, ...]
    body: Body

    def error(self, node: Node, reason: str) -> BundleError:
        """Return the error for a node that this engine cannot run."""
        return node_error(self.file, node.op, node.name, reason)


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
    body = read_onnx(content, file, signature)
    ready = _with_drops(_channels_last(fused(_folded(body, file))))
    return TorchGraph(file, tuple(signature.inputs), ready)


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
            raise node_error(file, node.op, node.name, first_line(error)) from error
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
