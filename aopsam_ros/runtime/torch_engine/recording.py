"""From a graph to a program.

Sizes, and everything made of them, are known once the inputs' shapes are. They are computed on the
host while a program is recorded, so that running it never waits for the device to tell a number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from aopsam_ros.runtime.precision import FULL_PRECISION, PROMPTS
from aopsam_ros.runtime.torch_engine.graph import TorchGraph
from aopsam_ros.runtime.torch_engine.nodes import Body, Node, as_argument, evaluate
from aopsam_ros.runtime.torch_engine.operator import UnsupportedError
from aopsam_ros.runtime.torch_engine.program import Key, Output, Program, Step, Values

FLOATS = (torch.float32, torch.float16)


class Weights:
    """A graph's constants on the device, each moved there once in every precision used."""

    def __init__(self, constants: Mapping[str, Tensor], device: torch.device) -> None:
        self.constants = constants
        self.device = device
        self._moved: Values = {}

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
    program = recorder.program()
    return program, program.collect(recorder.values)


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
        self.types = {name: value.dtype for name, value in inputs.items()}  # as first computed
        self.prompts = {name for name in inputs if name in PROMPTS}
        self.steps: list[Step] = []

    def follow(self, body: Body) -> None:
        for node in body.nodes:
            try:
                self._visit(node)
            except UnsupportedError as error:
                raise self.graph.error(node, str(error)) from error
            self._drop(node.dropped)

    def program(self) -> Program:
        sources = [self._output(name) for name in self.graph.body.outputs]
        outputs = [Output(source, self._is_shared(source)) for source in sources]
        return Program(list(self.inputs), self.steps, outputs)

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
                continue
            self._call(_same, (None,), [(0, (inner, self.types[inner]))], (outer,))
            if inner in self.prompts:
                self.prompts.add(outer)

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
            elif place in node.operator.host and name:
                raise UnsupportedError(f"its input {place + 1} depends on data")
            elif name:
                values.append((place, self._in(dtype, name)))
        self._call(node.compute, tuple(arguments), values, node.outputs)
        if of_prompts:
            self.prompts.update(node.outputs)

    def _argument(self, node: Node, place: int, name: str, dtype: torch.dtype) -> Any:  # noqa: ANN401
        value = as_argument(node, place, self.known[name])
        if not isinstance(value, Tensor):
            return value
        return self.weights.on_device(name, value, dtype if value.dtype in FLOATS else value.dtype)

    def _in(self, dtype: torch.dtype, name: str) -> Key:
        """Return the key of a value in a precision; whole numbers stay what they are."""
        found = self.types[name]
        if found not in FLOATS or (name, dtype) in self.values:
            return name, found if found not in FLOATS else dtype
        convert = _half if dtype == torch.float16 else _full
        self._add(Step(convert, (None,), ((0, (name, found)),), ((name, dtype),)))
        return name, dtype

    def _call(
        self,
        compute: Callable[..., Any],
        arguments: tuple[Any, ...],
        values: Sequence[tuple[int, Key]],
        names: Sequence[str],
    ) -> None:
        """Add a call, whose results' types are only known afterwards."""
        step = Step(compute, arguments, tuple(values), ())
        outputs = step.call(self.values)
        keys = tuple((name, value.dtype) for name, value in zip(names, outputs, strict=True))
        self.values.update(zip(keys, outputs, strict=True))
        self.types.update(keys)
        self.steps.append(step._replace(results=keys))

    def _add(self, step: Step) -> None:
        self.values.update(zip(step.results, step.call(self.values), strict=True))
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
        return self._in(torch.float32, name)

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
