"""What a graph is made of in the torch engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from aopsam_ros.runtime.torch_engine.operator import Operator


@dataclass(frozen=True)
class Node:
    """One operator of a graph.

    `compute` is its function with the attributes bound; `dropped` are the values that nothing after
    it uses. A branch (`If`) has its two bodies instead, the one for true first.
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    compute: Callable[..., Any]
    operator: Operator
    bodies: tuple[Body, ...] = ()
    dropped: tuple[str, ...] = ()

    def uses(self) -> set[str]:
        """Return the names it reads, in its branches too."""
        return set(self.inputs).union(*(body.uses() for body in self.bodies))


@dataclass(frozen=True)
class Body:
    """Nodes in an order in which they can run, constants on the host, and names of outputs."""

    nodes: Sequence[Node]
    constants: Mapping[str, Tensor]
    outputs: tuple[str, ...]

    def uses(self) -> set[str]:
        """Return the names its nodes read, and its outputs."""
        return set(self.outputs).union(*(node.uses() for node in self.nodes))


def evaluate(node: Node, inputs: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
    """Compute a node whose inputs are all known, on the host."""
    return results(node.compute(*[as_argument(node, i, x) for i, x in enumerate(inputs)]))


def as_argument(node: Node, place: int, known: Tensor | None) -> Any:  # noqa: ANN401
    """Return a known input as the node's function takes it: a tensor, numbers or None."""
    if known is None:
        return None
    is_index = known.ndim == 0 and not known.is_floating_point()
    if place in node.operator.host or (place in node.operator.scalars and is_index):
        return known.tolist()
    return known


def results(computed: Any) -> tuple[Tensor, ...]:  # noqa: ANN401
    """Return what a node's function gave as a tuple."""
    return (computed,) if isinstance(computed, Tensor) else tuple(computed)


def first_line(error: Exception) -> str:
    """Return the first line of torch's message; they are long."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
