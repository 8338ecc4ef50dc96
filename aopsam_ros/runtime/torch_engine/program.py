"""A graph for inputs of given shapes: nothing is left of it but calls of torch on the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from aopsam_ros.runtime.torch_engine.nodes import results

Key = tuple[str, torch.dtype]  # a value may be there in several precisions
Values = dict[Key, Tensor]


class Step(NamedTuple):
    """One call.

    `arguments` has the constants in their places, `values` tells which values go into the others;
    `dropped` are those that are not needed any more afterwards.
    """

    compute: Callable[..., Any]
    arguments: tuple[Any, ...]
    values: tuple[tuple[int, Key], ...]
    results: tuple[Key, ...]
    dropped: tuple[Key, ...] = ()

    def call(self, values: Values) -> tuple[Tensor, ...]:
        """Return what the call gives."""
        arguments = list(self.arguments)
        for place, key in self.values:
            arguments[place] = values[key]
        return results(self.compute(*arguments))


class Output(NamedTuple):
    """Where an output is: a value or a constant, which may be memory that must not be given away.

    `is_shared` says that it is also an input's or a constant's.
    """

    source: Key | Tensor
    is_shared: bool

    def take(self, values: Values) -> Tensor:
        """Return the output, in memory of its own."""
        value = self.source if isinstance(self.source, Tensor) else values[self.source]
        return value.clone() if self.is_shared else value


class Program(NamedTuple):
    """Steps from inputs, of which the keys are given, to outputs."""

    inputs: Sequence[Key]
    steps: Sequence[Step]
    outputs: Sequence[Output]

    def run(self, *inputs: Tensor) -> list[Tensor]:
        """Compute the outputs, none of which shares memory with inputs or constants."""
        values = dict(zip(self.inputs, inputs, strict=True))
        for step in self.steps:
            values.update(zip(step.results, step.call(values), strict=True))
            for key in step.dropped:
                del values[key]
        return self.collect(values)

    def collect(self, values: Values) -> list[Tensor]:
        """Take the outputs from the values there are at the end."""
        return [output.take(values) for output in self.outputs]
