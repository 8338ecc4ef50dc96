"""Decoders that give one mask of a prompt: their graphs hold all of SAM's, before the choice.

SAM's exporter writes such a graph with `--return-single-mask`: it gathers, of all masks and of
their predicted IoU, what an `ArgMax` names.
"""

from collections.abc import Mapping, Sequence

from onnx import GraphProto, NodeProto, TensorProto, helper

_SHAPING = ("Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")
_GATHERING = ("Gather", "GatherElements", "GatherND")


def give_all_masks(graph: GraphProto, outputs: Sequence[str]) -> list[str]:
    """Have a graph give what it chooses its outputs from; return the new outputs' names.

    An output that nothing is chosen for stays.
    """
    producers = {name: node for node in graph.node for name in node.output}
    names = []
    for output in outputs:
        before = _before_choice(output, producers)
        names.append(output if before == output else f"all_{output}")
        if before != output:
            graph.node.append(helper.make_node("Identity", [before], names[-1:]))
            graph.output.append(helper.make_tensor_value_info(names[-1], TensorProto.FLOAT, None))
    return names


def _before_choice(output: str, producers: Mapping[str, NodeProto]) -> str:
    name = _unshaped(output, producers)
    node = producers.get(name)
    if node is None or node.op_type not in _GATHERING or not _is_choice(node.input[1], producers):
        return output
    return _unshaped(node.input[0], producers, through=("Flatten", "Identity"))


def _unshaped(
    name: str, producers: Mapping[str, NodeProto], through: Sequence[str] = _SHAPING
) -> str:
    while name in producers and producers[name].op_type in through:
        name = producers[name].input[0]
    return name


def _is_choice(index: str, producers: Mapping[str, NodeProto]) -> bool:
    """Whether an index comes from an `ArgMax`."""
    waiting, seen = [index], set()
    while waiting:
        name = waiting.pop()
        if name not in producers or name in seen:
            continue
        seen.add(name)
        if producers[name].op_type == "ArgMax":
            return True
        waiting.extend(producers[name].input)
    return False
