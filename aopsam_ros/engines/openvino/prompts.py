"""Cutting what is made of prompts alone out of a graph.

In bf16, coordinates from 512 to 1023 are multiples of 4 pixels: neighbouring prompts become one.
OpenVINO has no switch that keeps single operators in 32 bits, but a model of its own can be.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from aopsam_ros.bundle.signatures import POINTS


class _Needs(NamedTuple):
    """The names of the inputs that an operator depends on: at all, and on more than their shape."""

    any: frozenset[str]
    values: frozenset[str]

    @property
    def only_prompts(self) -> bool:
        return bool(self.values) and self.any <= POINTS.keys()


def cut_prompts(openvino: Any, model: Any) -> tuple[Any, Any] | None:  # noqa: ANN401
    """Cut an `openvino.Model` in two; it is changed on the way.

    Returns:
        The part that depends on the inputs `POINTS` alone, and the rest, whose last inputs are the
        outputs of the first, in order; None where there is nothing to cut.
    """
    needs = _needs(model)
    cuts = list(_cuts(model, needs))
    if not cuts:
        return None
    inputs, outputs = model.get_parameters(), model.get_results()
    bridges = [openvino.op.Parameter(v.get_element_type(), v.get_partial_shape()) for v, _ in cuts]
    for (_, targets), bridge in zip(cuts, bridges, strict=True):
        for target in targets:
            target.replace_source_output(bridge.output(0))
    prompts = [node for node in inputs if _input_name(node) in POINTS]
    first = openvino.Model([openvino.opset8.result(value) for value, _ in cuts], prompts, "prompts")
    return first, openvino.Model(outputs, [*inputs, *bridges], "rest")


def _needs(model: Any) -> dict[str, _Needs]:  # noqa: ANN401
    """Map each operator, by its unique name, to what it depends on."""
    needs: dict[str, _Needs] = {}
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Parameter":
            own = frozenset([_input_name(node)])
            needs[node.get_name()] = _Needs(own, own)
            continue
        sources = [needs[i.get_source_output().get_node().get_name()] for i in node.inputs()]
        every = frozenset[str]().union(*(source.any for source in sources))
        values = frozenset[str]().union(*(source.values for source in sources))
        is_shape = node.get_type_name() == "ShapeOf"
        needs[node.get_name()] = _Needs(every, frozenset() if is_shape else values)
    return needs


def _cuts(model: Any, needs: dict[str, _Needs]) -> Iterator[tuple[Any, list[Any]]]:  # noqa: ANN401
    """Yield values that are made of prompts alone, and the inputs beyond that take them."""
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Parameter" or not needs[node.get_name()].only_prompts:
            continue
        for value in node.outputs():
            # What depends on their shape alone is cheap, and may stand in both parts.
            taken_by = [(t, needs[t.get_node().get_name()]) for t in value.get_target_inputs()]
            targets = [target for target, need in taken_by if not need.any <= POINTS.keys()]
            if targets:
                yield value, targets


def _input_name(node: Any) -> str:  # noqa: ANN401
    names = node.output(0).get_names()
    return min(names) if names else str(node.get_friendly_name())
