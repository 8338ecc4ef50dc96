"""What the three parts of a decoder take and give, and the check of loaded graphs against it.

M is 3, or 4 with SAM's single mask.

- `decoder_frame`: `embedding` to tensors of any name, the frame's, which all its prompts share.
- `decoder_prompts`: any of these, `point_coords` and `point_labels` to `predicted_iou [N, M]` and
  mask weights of any name.
- `decoder_masks`: any of the frame's tensors and mask weights, to `low_res_logits`. Where these are
  `[n, side, side]`, there are weights for each mask: `[N, M, ...]`, of which n are rendered. Where
  they are `[n, M, side, side]`, there are weights for each prompt: `[N, ...]`, and its masks are
  rendered together.

The embedding counts as one of the frame's tensors. All is float32.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aopsam_ros.bundle.loading import FRAME_PART, MASK_PART, PROMPT_PART, Bundle
from aopsam_ros.bundle.signatures import (
    IOU,
    LOGITS,
    POINTS,
    Described,
    Shape,
    Shapes,
    check_graph,
    num_masks,
)
from aopsam_ros.errors import BundleError


@dataclass(frozen=True)
class SplitSignature:
    """How the three graphs fit together, by the names of tensors."""

    prompt_tensors: tuple[str, ...]  # of the frame, that `decoder_prompts` takes
    mask_tensors: tuple[str, ...]  # of the frame, that `decoder_masks` takes
    mask_weights: tuple[str, ...]
    is_per_mask: bool  # there are weights for each mask, or else for each prompt
    num_masks: int  # of a prompt
    side: int  # of a mask over the padded square, cells


def check_split(
    bundle: Bundle, inputs: Mapping[str, Described], outputs: Mapping[str, Described]
) -> SplitSignature:
    """Check that three loaded graphs fit together and to bundle.yaml.

    Raises:
        BundleError: if a name is missing or unknown, or a type or size differs.
    """
    files = {name: str(graph.path) for name, graph in bundle.split_graphs.items()}
    masks, side = num_masks(outputs[PROMPT_PART]), bundle.low_res_mask_size
    embedding: Shapes = {"embedding": bundle.embedding_shape}
    check_graph(files[FRAME_PART], "input", embedding, inputs[FRAME_PART])
    frame = {**embedding, **_shapes(files[FRAME_PART], outputs[FRAME_PART])}

    file, taken = files[PROMPT_PART], inputs[PROMPT_PART]
    prompt_tensors = _those(frame, taken)
    check_graph(file, "input", {**prompt_tensors, **POINTS}, taken)
    check_graph(file, "output", {IOU: (None, masks)}, outputs[PROMPT_PART])
    given = _shapes(file, outputs[PROMPT_PART])

    file, taken = files[MASK_PART], inputs[MASK_PART]
    is_per_mask = LOGITS in outputs[MASK_PART] and len(outputs[MASK_PART][LOGITS][1]) == 3
    first: Shape = (None,) if is_per_mask else (None, masks)
    check_graph(file, "output", {LOGITS: (*first, side, side)}, outputs[MASK_PART])
    begins: Shape = (None, masks) if is_per_mask else (None,)
    weights = {
        name: _to_render(files[PROMPT_PART], name, given[name], taken[name][1], begins)
        for name in _those(given, taken)
        if name != IOU
    }
    if not weights:
        raise BundleError(f"{file}: takes none of the mask weights that {files[PROMPT_PART]} gives")
    mask_tensors = _those(frame, taken)
    check_graph(file, "input", {**mask_tensors, **weights}, taken)
    return SplitSignature(
        tuple(prompt_tensors),
        tuple(name for name in mask_tensors if name not in weights),
        tuple(weights),
        is_per_mask,
        masks,
        side,
    )


def _those(shapes: Shapes, names: Described) -> dict[str, Shape]:
    return {name: shapes[name] for name in names if name in shapes}


def _shapes(file: str, described: Described) -> Shapes:
    """Return the shapes of a graph's outputs, all of which must be float32."""
    shapes: Shapes = {
        name: tuple(size if isinstance(size, int) else None for size in sizes)
        for name, (_, sizes) in described.items()
    }
    check_graph(file, "output", shapes, described)
    return shapes


def _to_render(file: str, name: str, shape: Shape, taken: Sequence[object], begins: Shape) -> Shape:
    """Return the shape of n mask weights to render, of `shape` where N prompts are decoded.

    Sizes that the graph of the prompts leaves open are as `taken` by that of the masks.
    """
    if any(size not in (None, want) for want, size in zip(begins, (*shape, 0, 0), strict=False)):
        raise BundleError(
            f"{file}: output {name} has shape {list(shape)}, but must begin with "
            f"{['any' if size is None else size for size in begins]}"
        )
    rest, sizes = shape[len(begins) :], list(taken)[1:]
    if len(rest) != len(sizes):
        return (None, *rest)  # which the graph of the masks will be found not to take
    pairs = zip(rest, sizes, strict=True)
    return (None, *(b if a is None and isinstance(b, int) else a for a, b in pairs))
