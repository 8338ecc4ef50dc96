"""Operators that a graph spells out and torch has as one: each saves passes over its values."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from aopsam_ros.runtime.torch_engine.nodes import Body, Node
from aopsam_ros.runtime.torch_engine.operator import Operator

CLOSE = 1e-6


def fused(body: Body) -> Body:
    """Put one node for each known pattern, and leave out nodes that nothing uses."""
    patterns = _Patterns(body)
    nodes = [patterns.linear(node) or patterns.gelu(node) or node for node in body.nodes]
    return _without_unused(replace(body, nodes=nodes))


class _Patterns:
    """Recognises the last node of a pattern by what its inputs are made of."""

    def __init__(self, body: Body) -> None:
        self._constants = body.constants
        self._maker = {name: node for node in body.nodes for name in node.outputs}
        self._uses = Counter(name for node in body.nodes for name in node.uses())
        self._uses.update(body.outputs)

    def gelu(self, node: Node) -> Node | None:
        """Match `0.5 * (x * (1 + erf(x / sqrt(2))))`."""
        product = self._made_by("Mul", self._beside(node, "Mul", 0.5))
        if product is None:
            return None
        for x, factor in (product.inputs, product.inputs[::-1]):
            erf = self._made_by("Erf", self._beside(self._maker.get(factor), "Add", 1.0))
            if erf is None:
                continue
            quotient = self._made_by("Div", erf.inputs[0])
            if quotient is None or quotient.inputs[0] != x:
                continue
            if self._is_number(quotient.inputs[1], math.sqrt(2.0)):
                return _node(node, "Gelu", F.gelu, (x,))
        return None

    def linear(self, node: Node) -> Node | None:
        """Match `x @ weight + bias`, if nothing else uses the product."""
        if node.op != "Add":
            return None
        for name, bias in (node.inputs, node.inputs[::-1]):
            product = self._made_by("MatMul", name)
            if product is None or bias not in self._constants or self._uses[name] != 1:
                continue
            x, weight = product.inputs
            columns = self._constants[weight].shape[1:] if weight in self._constants else None
            if columns is not None and self._constants[bias].shape == columns and len(columns) == 1:
                return _node(node, "Linear", _linear, (x, weight, bias))
        return None

    def _beside(self, node: Node | None, op: str, number: float) -> str | None:
        """Return the other input of a node with such a constant, whichever comes first."""
        if node is None or node.op != op:
            return None
        for name, constant in (node.inputs, node.inputs[::-1]):
            if self._is_number(constant, number):
                return name
        return None

    def _made_by(self, op: str, name: str | None) -> Node | None:
        maker = self._maker.get(name) if name is not None else None
        return maker if maker is not None and maker.op == op else None

    def _is_number(self, name: str, number: float) -> bool:
        value = self._constants.get(name)
        return value is not None and value.numel() == 1 and abs(value.item() - number) < CLOSE


def _node(last: Node, op: str, compute: Callable[..., Tensor], inputs: tuple[str, ...]) -> Node:
    return replace(last, op=op, inputs=inputs, compute=compute, operator=Operator(compute))


def _linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.linear(x, weight.T, bias)


def _without_unused(body: Body) -> Body:
    needed, nodes = set(body.outputs), []
    for node in reversed(body.nodes):
        if needed.intersection(node.outputs):
            needed |= node.uses()
            nodes.append(node)
    constants = {name: value for name, value in body.constants.items() if name in needed}
    return replace(body, nodes=nodes[::-1], constants=constants)
