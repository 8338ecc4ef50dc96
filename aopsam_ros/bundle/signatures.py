"""What each graph takes and gives, and the check of a loaded graph against it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.bundle.loading import DECODER, ENCODER, LABELLER, PREDICTOR, Bundle
from aopsam_ros.errors import BundleError, InferenceError

Shape = tuple["int | None", ...]  # None: any size
Shapes = Mapping[str, Shape]
# Inputs or outputs of a loaded graph: name to element type and sizes; one that is no number is
# dynamic.
Described = Mapping[str, tuple[str, Sequence[object]]]

MASKS = 3  # a prompt's alternatives; a decoder may give SAM's single mask before them
IOU, LOGITS, SEMANTIC_MAP, EXTENT_MAP, ATTENTION, LABEL_EMBEDDING = (
    "predicted_iou", "low_res_logits", "semantic_map", "extent_map", "attention", "label_embedding",
)  # fmt: skip
MASK_INPUT, HAS_MASK_INPUT = "mask_input", "has_mask_input"
POINTS: Shapes = {"point_coords": (None, None, 2), "point_labels": (None, None)}
SEMANTIC_STRIDE = 32  # pixels of the padded square to a cell of `semantic_map`
FROM_GRAPH = 0  # a fixed size that the graph chooses


@dataclass(frozen=True)
class Signature:
    """Names and shapes of a graph's inputs and outputs, all float32.

    A graph has all of `optional_inputs` or none, and any of `optional_outputs`.
    """

    inputs: Shapes
    outputs: Shapes
    optional_inputs: Shapes = field(default_factory=dict)
    optional_outputs: Shapes = field(default_factory=dict)


def signatures(bundle: Bundle, num_masks: int = MASKS) -> dict[str, Signature]:
    """Return what the bundle's sizes make of each graph's signature.

    A prompt has 3 masks, or 4 with SAM's single mask, which is the first.
    """
    image: Shape = (1, 3, bundle.image_size, bundle.image_size)
    semantic = bundle.image_size // SEMANTIC_STRIDE
    cells, side = bundle.confidence_map_size, bundle.low_res_mask_size
    known: Shapes = {"image": image, "embedding": bundle.embedding_shape}
    places = bundle.attention.side**2 if bundle.attention else 0
    known_graphs = {
        ENCODER: Signature(
            {"image": image},
            {
                "embedding": bundle.embedding_shape,
                **({ATTENTION: (1, places, places)} if places else {}),
            },
            optional_outputs={SEMANTIC_MAP: (1, FROM_GRAPH, semantic, semantic)},
        ),
        PREDICTOR: Signature(
            {name: known[name] for name in bundle.predictor_inputs},
            {"confidence_map": (1, 1, cells, cells)},
            optional_outputs={EXTENT_MAP: (1, 4, cells, cells)},
        ),
        DECODER: Signature(
            {"embedding": bundle.embedding_shape, **POINTS},
            {LOGITS: (None, num_masks, side, side), IOU: (None, num_masks)},
            optional_inputs={MASK_INPUT: (None, 1, side, side), HAS_MASK_INPUT: (None,)},
        ),
    }
    labeller = bundle.labeller
    if labeller is not None:
        size = labeller.input_size
        of_mask: Shape = (3, size, size) if labeller.takes == "crops" else (size,)
        known_graphs[LABELLER] = Signature(
            {labeller.takes: (None, *of_mask)}, {LABEL_EMBEDDING: (None, labeller.embedding_size)}
        )
    return known_graphs


def signature_of(
    bundle: Bundle,
    graph: str,
    file: str,
    inputs: Described,
    outputs: Described,
    drops_unused: bool = False,
) -> Signature:
    """Check a loaded graph; return its own signature, in which nothing is optional.

    `file` is named in errors; an engine that `drops_unused` leaves out inputs that the graph does
    not use.

    Raises:
        BundleError: if a name is missing, an input is unknown, or a type or size differs.
    """
    wanted = signatures(bundle, num_masks(outputs))[graph]
    optional = wanted.optional_inputs if set(wanted.optional_inputs) & set(inputs) else {}
    taken = {**wanted.inputs, **optional}
    if drops_unused:
        taken = {name: shape for name, shape in taken.items() if name in inputs} or taken
    given = dict(wanted.outputs)
    for name, shape in wanted.optional_outputs.items():
        if name in outputs:
            given[name] = _chosen(file, name, shape, outputs[name][1])
    check_graph(file, "input", taken, inputs)
    check_graph(file, "output", given, outputs)
    return Signature(taken, given)


def num_masks(outputs: Described) -> int:
    """Return how many masks a prompt gets of a loaded decoder: 3, or 4 with SAM's single mask."""
    has_single_mask = IOU in outputs and list(outputs[IOU][1])[1:] == [MASKS + 1]
    return MASKS + has_single_mask


def mask_inputs(
    signature: Signature, mask_input: NDArray[np.float32] | None, prompts: int
) -> dict[str, NDArray[np.float32]]:
    """Return the decoder's inputs that say which masks its prompts begin with.

    Args:
        signature: of the loaded decoder.
        mask_input: logits `[N, 1, M, M]`, as the decoder gave them; None: no prompt has any.
        prompts: N.

    Raises:
        InferenceError: if the decoder takes none, or they are of another shape.
    """
    if MASK_INPUT not in signature.inputs:
        if mask_input is not None:
            raise InferenceError(f"this model's {DECODER} takes no {MASK_INPUT}")
        return {}
    shape = (prompts, *(size or 0 for size in signature.inputs[MASK_INPUT][1:]))
    if mask_input is None:
        mask_input, has_mask = np.zeros(shape, np.float32), np.zeros(prompts, np.float32)
    else:
        has_mask = np.ones(prompts, np.float32)
    if np.shape(mask_input) != shape:
        raise InferenceError(
            f"{MASK_INPUT} has shape {list(np.shape(mask_input))}, expected {list(shape)}"
        )
    return {MASK_INPUT: mask_input, HAS_MASK_INPUT: has_mask}


def check_graph(file: str, kind: str, wanted: Shapes, found: Described) -> None:
    """Compare a loaded graph's inputs or outputs, as `kind` says, with what they must be.

    Raises:
        BundleError: if a name is missing, an input is unknown, or a type or size differs.
    """
    missing = [name for name in wanted if name not in found]
    unknown = [name for name in found if name not in wanted] if kind == "input" else []
    if missing or unknown:
        raise BundleError(
            f"{file}: {kind}s are {', '.join(found) or 'none'}, but must be {', '.join(wanted)}"
        )
    for name, shape in wanted.items():
        element, sizes = found[name]
        if element != "tensor(float)":
            raise BundleError(f"{file}: {kind} {name} is {element}, but must be tensor(float)")
        if not _fits(shape, sizes):
            raise BundleError(
                f"{file}: {kind} {name} has shape {list(sizes)}, but must have "
                f"{['any' if size is None else size for size in shape]}"
            )


def check_open_sides(file: str, multiple: int, inputs: Described) -> None:
    """Refuse a loaded graph for squares only in a bundle that says that it takes other images.

    The sides of those are multiples of `multiple`.

    Raises:
        BundleError: if a side of an image or an embedding is fixed.
    """
    for name, (_, sizes) in inputs.items():
        if name in ("image", "embedding") and any(isinstance(size, int) for size in sizes[2:]):
            raise BundleError(
                f"{file}: input {name} has shape {list(sizes)}, but with size_divisibility "
                f"{multiple} its sides must be dynamic"
            )


def _chosen(file: str, name: str, shape: Shape, sizes: Sequence[object]) -> Shape:
    """Return the shape of an output with the sizes that the graph chooses."""
    if FROM_GRAPH not in shape or len(sizes) != len(shape):
        return shape
    chosen = sizes[shape.index(FROM_GRAPH)]
    if not isinstance(chosen, int):
        raise BundleError(f"{file}: output {name} must say how many channels it has")
    return tuple(chosen if size == FROM_GRAPH else size for size in shape)


def _fits(wanted: Shape, sizes: Sequence[object]) -> bool:
    """Return whether the sizes can be the wanted ones; a fixed size where any is wanted cannot."""
    return len(wanted) == len(sizes) and all(
        not isinstance(found, int) or found == size
        for size, found in zip(wanted, sizes, strict=True)
    )
