"""How an ONNX operator is written in torch."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


class UnsupportedError(Exception):
    """An operator is used in a way that this engine does not know."""


@dataclass(frozen=True)
class Operator:
    """A torch function with an ONNX operator's inputs, in their order, and its attributes by name.

    Args:
        compute: the function; a missing optional input is None.
        attributes: that it knows.
        host: places of the inputs that are sizes, axes and the like. They are given as Python
            numbers and lists, so they must not depend on data.
        scalars: places of the inputs that are given as a number where they are one that does not
            depend on data, else as tensors.
        outputs: how many it gives; None for as many as the node has, told by `outputs=`.
    """

    compute: Callable[..., Any]
    attributes: frozenset[str] = frozenset()
    host: tuple[int, ...] = ()
    scalars: tuple[int, ...] = ()
    outputs: int | None = 1


class OperatorTable(dict[str, Operator]):
    """ONNX operator to torch function."""

    def plain(self, **functions: Callable[..., Any]) -> None:
        """Add functions of torch's own that have the operator's inputs and no attributes."""
        self.update({name: Operator(compute) for name, compute in functions.items()})

    def add(
        self, name: str, host: tuple[int, ...] = (), scalars: tuple[int, ...] = ()
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Add the decorated function; its keyword-only parameters are the attributes."""

        def register(compute: Callable[..., Any]) -> Callable[..., Any]:
            parameters = inspect.signature(compute).parameters.values()
            named = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
            outputs = None if "outputs" in named else 1
            attributes = frozenset(named - {"outputs"})
            self[name] = Operator(compute, attributes, host, scalars, outputs)
            return compute

        return register


def only(name: str, value: object, *allowed: object) -> None:
    """Refuse an attribute's values but for these.

    Raises:
        UnsupportedError: if the value is another one.
    """
    if value not in allowed:
        raise UnsupportedError(f"{name} {value!r} is unknown")
