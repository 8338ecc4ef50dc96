"""What the three parts of a decoder take and give, and the check of loaded graphs against it.

- `decoder_frame`: `embedding` to tensors of any name, which all prompts of the frame share.
- `decoder_prompts`: any of these, `point_coords` and `point_labels` to `predicted_iou [N, 3]` and
  codes of any name.
- `decoder_masks`: any of the shared tensors and codes, to `low_res_logits`. Where these are
  `[n, M, M]`, codes are of masks: `[N, 3, ...]`, of which n are drawn. Where they are
  `[n, 3, M, M]`, codes are of prompts: `[N, ...]`, and the three masks are drawn together.

The embedding counts as shared, too. All is float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aopsam_ros.bundle.loading import FRAME_PART, MASK_PART, PROMPT_PART, Bundle
from aopsam_ros.bundle.signatures import MASKS, Shape, check_graph
from aopsam_ros.errors import BundleError

# Inputs or outputs of a loaded graph: name to element type and sizes.
Described = Mapping[str, tuple[str, Sequence[object]]]
Shapes = Mapping[str, Shape]

LOGITS, IOU = "low_res_logits", "predicted_iou"
_POINTS: Shapes = {"point_coords": (None, None, 2), "point_labels": (None, None)}


@dataclass(frozen=True)
class SplitSignature:
    """What goes between the three graphs, by name; `side` is that of masks."""

    prompts_need: tuple[str, ...]
    masks_need: tuple[str, ...]
    codes: tuple[str, ...]
    is_per_mask: bool
    side: int

    @property
    def prompts_at_once(self) -> int:
        """How many prompts are decoded in a call.

        A code of a prompt says how it sees the image, which is much; codes of masks are small.
        """
        return 64 if self.is_per_mask else 4

    @property
    def rows_at_once(self) -> int:
        """How many masks, or prompts with all of theirs, are drawn in a call."""
        return 16 if self.is_per_mask else 2


def check_split(
    bundle: Bundle, inputs: Mapping[str, Described], outputs: Mapping[str, Described]
) -> SplitSignature:
    """Check that three loaded graphs fit together and to bundle.yaml.

    Args:
        bundle: that they are of.
        inputs: of each graph.
        outputs: of each graph.

    Raises:
        BundleError: if a name is missing or unknown, or a type or size differs.
    """
    files = {name: str(graph.path) for name, graph in bundle.split_graphs.items()}
    embedding: Shapes = {"embedding": bundle.embedding_shape}
    check_graph(files[FRAME_PART], "input", embedding, inputs[FRAME_PART])
    shared = {**embedding, **_shapes(files[FRAME_PART], outputs[FRAME_PART])}

    file, asked = files[PROMPT_PART], inputs[PROMPT_PART]
    prompts_need = _those(shared, asked)
    check_graph(file, "input", {**prompts_need, **_POINTS}, asked)
    check_graph(file, "output", {IOU: (None, MASKS)}, outputs[PROMPT_PART])
    given = _shapes(file, outputs[PROMPT_PART])

    is_per_mask = _check_logits(files[MASK_PART], outputs[MASK_PART], bundle.low_res_mask_size)
    drawn = inputs[MASK_PART]
    codes = {
        name: _to_draw(file, name, given[name], drawn[name][1], is_per_mask)
        for name in _those(given, drawn)
        if name != IOU
    }
    if not codes:
        raise BundleError(f"{files[MASK_PART]}: takes none of the codes that {file} gives")
    masks_need = _those(shared, drawn)
    check_graph(files[MASK_PART], "input", {**masks_need, **codes}, drawn)
    return SplitSignature(
        tuple(prompts_need),
        tuple(name for name in masks_need if name not in codes),
        tuple(codes),
        is_per_mask,
        bundle.low_res_mask_size,
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


def _check_logits(file: str, outputs: Described, side: int) -> bool:
    """Return whether masks are drawn one by one, or a prompt's three together."""
    is_per_mask = LOGITS in outputs and len(outputs[LOGITS][1]) == 3
    shape: Shape = (None, side, side) if is_per_mask else (None, MASKS, side, side)
    check_graph(file, "output", {LOGITS: shape}, outputs)
    return is_per_mask


def _to_draw(
    file: str, name: str, shape: Shape, taken: Sequence[object], is_per_mask: bool
) -> Shape:
    """Return the shape of codes to draw, of the shape that prompts are decoded to.

    Sizes that the graph of the prompts leaves open are as `taken` by that of the masks.
    """
    starts: Shape = (None, MASKS) if is_per_mask else (None,)
    begins = zip(starts, (*shape, 0, 0), strict=False)
    if any(size not in (None, wanted) for wanted, size in begins):
        raise BundleError(
            f"{file}: output {name} has shape {list(shape)}, but must begin with "
            f"{['any' if size is None else size for size in starts]}"
        )
    rest, sizes = shape[len(starts) :], list(taken)[1:]
    if len(rest) != len(sizes):
        return (None, *rest)  # which the graph of the masks will be found not to take
    pairs = zip(rest, sizes, strict=True)
    return (None, *(b if a is None and isinstance(b, int) else a for a, b in pairs))
