"""A graph for inputs of given shapes: nothing is left of it but calls of torch on the device.

Sizes, and everything made of them, are known once the inputs' shapes are. They are computed on the
host while a program is recorded, so that running it never waits for the device to tell a number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from aopsam_ros.runtime.precision import FULL_PRECISION, PROMPTS
from aopsam_ros.runtime.torch_graph import TorchGraph
from aopsam_ros.runtime.torch_nodes import Body, Node, as_argument, evaluate, results
from aopsam_ros.runtime.torch_operator import UnsupportedError

FLOATS = (torch.float32, torch.float16)
Key = tuple[str, torch.dtype]  # a value may be there in several precisions


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


class Program:
    """Steps from inputs to outputs.

    Args:
        steps: in order.
        inputs: the keys of what `run` is given.
        outputs: (key, or a constant; whether it shares memory with what must not be handed out).
    """

    def __init__(
        self,
        steps: Sequence[Step],
        inputs: Sequence[Key],
        outputs: Sequence[tuple[Key | Tensor, bool]],
    ) -> None:
        self._steps = steps
        self._inputs = inputs
        self._outputs = outputs

    def run(self, *inputs: Tensor) -> list[Tensor]:
        """Compute the outputs, none of which shares memory with inputs or constants."""
        values = dict(zip(self._inputs, inputs, strict=True))
        for step in self._steps:
            _execute(step, values)
            for key in step.dropped:
                del values[key]
        return [self._output(values, *output) for output in self._outputs]

    def _output(self, values: dict[Key, Tensor], source: Key | Tensor, shared: bool) -> Tensor:
        value = source if isinstance(source, Tensor) else values[source]
        return value.clone() if shared else value


class Weights:
    """A graph's constants on the device, each moved there once in every precision used."""

    def __init__(self, constants: Mapping[str, Tensor], device: torch.device) -> None:
        self.constants = constants
        self.device = device
        self._moved: dict[Key, Tensor] = {}

    def on_device(self, name: str, value: Tensor, dtype: torch.dtype) -> Tensor:
        """Return a known value on the device; only the graph's own ones are kept."""
        if name not in self.constants:
            return value.to(self.device, dtype)
        if (name, dtype) not in self._moved:
            self._moved[name, dtype] = value.to(self.device, dtype)
        return self._moved[name, dtype]


def record(
    graph: TorchGraph, weights: Weights, inputs: Mapping[str, Tensor], half: bool
) -> tuple[Program, list[Tensor]]:
    """Run a graph once and write down what was called.

    Args:
        graph: from `load_graph`.
        weights: its constants.
        inputs: float32 on the device, by name.
        half: compute in 16 bits but for what needs 32 (see `precision`).

    Returns:
        The program for inputs of these shapes, and its outputs for these inputs.

    Raises:
        BundleError: if the graph uses an operator in a way that is not known.
    """
    recorder = _Recorder(graph, weights, inputs, half)
    recorder.follow(graph.body)
    return recorder.program()


def _execute(step: Step, values: dict[Key, Tensor]) -> None:
    arguments = list(step.arguments)
    for place, key in step.values:
        arguments[place] = values[key]
    values.update(zip(step.results, results(step.compute(*arguments)), strict=True))


class _Recorder:
    """Follows a graph's nodes: known values are computed on the host, the rest becomes steps."""

    def __init__(
        self, graph: TorchGraph, weights: Weights, inputs: Mapping[str, Tensor], half: bool
    ) -> None:
        self.graph = graph
        self.weights = weights
        self.half = half
        self.known = dict(weights.constants)
        self.inputs = {(name, value.dtype): value for name, value in inputs.items()}
        self.values = dict(self.inputs)
        self.types = {name: value.dtype for name, value in inputs.items()}
        self.prompts = {name for name in inputs if name in PROMPTS}
        self.steps: list[Step] = []

    def follow(self, body: Body) -> None:
        for node in body.nodes:
            try:
                self._visit(node)
            except UnsupportedError as error:
                raise self.graph.error(node, str(error)) from error
            self._drop(node.dropped)

    def program(self) -> tuple[Program, list[Tensor]]:
        keys = [self._output(name) for name in self.graph.body.outputs]
        outputs = [(source, self._is_shared(source)) for source in keys]
        program = Program(self.steps, list(self.inputs), outputs)
        found = [self.values[key] if isinstance(key, tuple) else key for key in keys]
        shared = [is_shared for _, is_shared in outputs]
        return program, [x.clone() if s else x for x, s in zip(found, shared, strict=True)]

    def _visit(self, node: Node) -> None:
        if node.bodies:
            self._branch(node)
        elif all(name in self.known for name in node.inputs if name):
            values = evaluate(node, [self.known.get(name) for name in node.inputs])
            self.known.update(zip(node.outputs, values, strict=True))
        elif node.op == "Shape":
            (name,) = node.inputs
            self.known[node.outputs[0]] = node.compute(self.values[name, self.types[name]])
        else:
            self._compute(node)

    def _branch(self, node: Node) -> None:
        """Follow the branch that is taken, as if its nodes stood here."""
        condition = self.known.get(node.inputs[0])
        if condition is None:
            raise UnsupportedError("its condition depends on data")
        body = node.bodies[0] if bool(condition.item()) else node.bodies[1]
        self.known.update(body.constants)
        self.follow(body)
        for inner, outer in zip(body.outputs, node.outputs, strict=True):
            if inner in self.known:
                self.known[outer] = self.known[inner]
            else:
                key = inner, self.types[inner]
                self._call(_same, (None,), ((0, key),), (outer,))
                self.prompts |= {outer} if inner in self.prompts else set()

    def _compute(self, node: Node) -> None:
        """Add a node's call to the steps, in the precision that it needs."""
        unknown = {name for name in node.inputs if name and name not in self.known}
        of_prompts = unknown <= self.prompts
        full = of_prompts or node.op in FULL_PRECISION or not self.half
        dtype = torch.float32 if full else torch.float16
        arguments: list[Any] = [None] * len(node.inputs)
        values = []
        for place, name in enumerate(node.inputs):
            if name in self.known:
                arguments[place] = self._argument(node, place, name, dtype)
            elif name:
                values.append((place, self._in(dtype, node, place, name)))
        self._call(node.compute, tuple(arguments), tuple(values), node.outputs)
        if of_prompts:
            self.prompts.update(node.outputs)

    def _argument(self, node: Node, place: int, name: str, dtype: torch.dtype) -> Any:  # noqa: ANN401
        value = as_argument(node, place, self.known[name])
        if not isinstance(value, Tensor):
            return value
        kind = dtype if value.dtype in FLOATS else value.dtype
        return self.weights.on_device(name, value, kind)

    def _in(self, dtype: torch.dtype, node: Node, place: int, name: str) -> Key:
        """Return the key of a value in a precision; add the step that converts it."""
        if place in node.operator.host:
            raise UnsupportedError(f"its input {place + 1} depends on data")
        found = self.types[name]
        if found not in FLOATS or found == dtype:
            return name, found
        if (name, dtype) not in self.values:
            step = Step(_CONVERT[dtype], (None,), ((0, (name, found)),), ((name, dtype),))
            self._add(step)
        return name, dtype

    def _call(
        self,
        compute: Callable[..., Any],
        arguments: tuple[Any, ...],
        values: tuple[tuple[int, Key], ...],
        names: Sequence[str],
    ) -> None:
        """Run a call, then write it down under what it gave."""
        found = list(arguments)
        for place, key in values:
            found[place] = self.values[key]
        outputs = results(compute(*found))
        keys = tuple((name, value.dtype) for name, value in zip(names, outputs, strict=True))
        self.values.update(zip(keys, outputs, strict=True))
        self.types.update(keys)
        self.steps.append(Step(compute, arguments, values, keys))

    def _add(self, step: Step) -> None:
        _execute(step, self.values)
        self.steps.append(step)

    def _drop(self, names: Sequence[str]) -> None:
        """Forget values that are not used any more, now and at the same place of the program."""
        gone = tuple(key for key in self.values if key[0] in names)
        for key in gone:
            del self.values[key]
        if self.steps and gone:
            last = self.steps[-1]
            self.steps[-1] = last._replace(dropped=last.dropped + gone)

    def _output(self, name: str) -> Key | Tensor:
        """Return where an output is to be had, in 32 bits."""
        if name in self.known:
            return self.weights.on_device(name, self.known[name], torch.float32)
        found = self.types[name]
        if found == torch.float16:
            self._add(Step(_full, (None,), ((0, (name, found)),), ((name, torch.float32),)))
            found = torch.float32
        return name, found

    def _is_shared(self, source: Key | Tensor) -> bool:
        """Return whether an output's memory is also an input's or a constant's."""
        if isinstance(source, Tensor):
            return True
        place = self.values[source].untyped_storage().data_ptr()
        constants = (x for step in self.steps for x in step.arguments if isinstance(x, Tensor))
        owners = [*self.inputs.values(), *constants]
        return any(x.untyped_storage().data_ptr() == place for x in owners)


def _same(x: Tensor) -> Tensor:
    return x


def _full(x: Tensor) -> Tensor:
    return x.float()


def _half(x: Tensor) -> Tensor:
    return x.half()


_CONVERT = {torch.float32: _full, torch.float16: _half}
