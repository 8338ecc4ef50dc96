"""What each graph takes and gives, and the check of a loaded graph against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.bundle.loading import DECODER, ENCODER, PREDICTOR, Bundle
from aopsam_ros.errors import BundleError, InferenceError

MASKS = 3  # a prompt's alternatives
Shape = tuple["int | None", ...]  # None: any size


@dataclass(frozen=True)
class Signature:
    """Names and shapes of a graph's inputs and outputs, all float32."""

    inputs: Mapping[str, Shape]
    outputs: Mapping[str, Shape]


def signatures(bundle: Bundle) -> dict[str, Signature]:
    """Return what the bundle's sizes make of each graph's signature."""
    image: Shape = (1, 3, bundle.image_size, bundle.image_size)
    embedding: Shape = bundle.embedding_shape
    confidence: Shape = (1, 1, bundle.confidence_map_size, bundle.confidence_map_size)
    logits: Shape = (None, MASKS, bundle.low_res_mask_size, bundle.low_res_mask_size)
    return {
        ENCODER: Signature({"image": image}, {"embedding": embedding}),
        PREDICTOR: Signature(
            {"image": image, "embedding": embedding}, {"confidence_map": confidence}
        ),
        DECODER: Signature(
            {
                "embedding": embedding,
                "point_coords": (None, None, 2),
                "point_labels": (None, None),
            },
            {"low_res_logits": logits, "predicted_iou": (None, MASKS)},
        ),
    }


def check_graph(
    file: str,
    kind: str,
    wanted: Mapping[str, Shape],
    found: Mapping[str, tuple[str, Sequence[object]]],
) -> None:
    """Compare a loaded graph's inputs or outputs with its signature.

    Args:
        file: the graph's file, for the message.
        kind: "input" or "output", for the message.
        wanted: name to shape.
        found: name to element type and shape; a size that is not a number is dynamic.

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


def check_open_sides(
    file: str, multiple: int, found: Mapping[str, tuple[str, Sequence[object]]]
) -> None:
    """Refuse a loaded graph for squares only in a bundle that says that it takes other images.

    Args:
        file: the graph's file, for the message.
        multiple: what the sides of images have to be multiples of.
        found: its inputs' names to element type and shape.

    Raises:
        BundleError: if a side of an image or an embedding is fixed.
    """
    for name, (_, sizes) in found.items():
        if name in ("image", "embedding") and any(isinstance(size, int) for size in sizes[2:]):
            raise BundleError(
                f"{file}: input {name} has shape {list(sizes)}, but with size_divisibility "
                f"{multiple} its sides must be dynamic"
            )


def _fits(wanted: Shape, sizes: Sequence[object]) -> bool:
    """Return whether the sizes can be the wanted ones; a fixed size where any is wanted cannot."""
    if len(wanted) != len(sizes):
        return False
    for size, found in zip(wanted, sizes, strict=True):
        if isinstance(found, int) and found != size:
            return False
    return True


def check_output(name: str, array: NDArray[np.float32], shape: Shape) -> NDArray[np.float32]:
    """Return a graph's output if its shape is the wanted one and all its values are finite.

    Raises:
        InferenceError: if not.
    """
    fits = array.ndim == len(shape) and all(
        size in (None, found) for size, found in zip(shape, array.shape, strict=True)
    )
    if not fits:
        raise InferenceError(f"{name} has shape {list(array.shape)}, expected {list(shape)}")
    # A sum is finite only if every term is, and is several times faster than looking at each.
    with np.errstate(over="ignore", invalid="ignore"):
        total = array.sum()
    if not np.isfinite(total) and not np.isfinite(array).all():
        raise InferenceError(f"{name} holds values that are not finite")
    return array
