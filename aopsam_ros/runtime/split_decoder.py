"""Running a decoder in three parts: once a frame, once a prompt, and for masks that are wanted.

Most masks end at their predicted IoU: these are never drawn. Knows no engine; one lends it a way to
run a graph on arrays.

- `decoder_frame`: `embedding` to tensors of any name, which all prompts of the frame share.
- `decoder_prompts`: any of these, `point_coords` and `point_labels` to `predicted_iou [N, 3]` and
  codes of any name.
- `decoder_masks`: any of the shared tensors and codes, to `low_res_logits`. Where these are
  `[n, M, M]`, codes are of masks: `[N, 3, ...]`, of which n are drawn. Where they are
  `[n, 3, M, M]`, codes are of prompts: `[N, ...]`, and the three masks are drawn together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.errors import BundleError, InferenceError
from aopsam_ros.runtime.bundle import FRAME_PART, MASK_PART, PROMPT_PART, Bundle
from aopsam_ros.runtime.signatures import MASKS, Shape, check_graph, check_output

Arrays = Mapping[str, NDArray[np.float32]]
Run = Callable[[str, Arrays], Arrays]  # a graph's name and inputs to its outputs
# Inputs or outputs of a loaded graph: name to element type and sizes.
Described = Mapping[str, tuple[str, Sequence[object]]]

_LOGITS, _IOU = "low_res_logits", "predicted_iou"


@dataclass(frozen=True)
class SplitSignature:
    """What goes between the three graphs, by name."""

    shared: tuple[str, ...]
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
    embedding: Shape = bundle.embedding_shape
    check_graph(files[FRAME_PART], "input", {"embedding": embedding}, inputs[FRAME_PART])
    shared = {"embedding": embedding, **_shapes(files[FRAME_PART], outputs[FRAME_PART])}

    asked, given = inputs[PROMPT_PART], outputs[PROMPT_PART]
    needed = {name: shared[name] for name in asked if name in shared}
    points: dict[str, Shape] = {"point_coords": (None, None, 2), "point_labels": (None, None)}
    check_graph(files[PROMPT_PART], "input", {**needed, **points}, asked)
    check_graph(files[PROMPT_PART], "output", {_IOU: (None, MASKS)}, given)

    found = _shapes(files[PROMPT_PART], given)
    drawn, wanted = inputs[MASK_PART], outputs[MASK_PART]
    is_per_mask = _LOGITS in wanted and len(wanted[_LOGITS][1]) == 3
    side = bundle.low_res_mask_size
    logits: Shape = (None, side, side) if is_per_mask else (None, MASKS, side, side)
    check_graph(files[MASK_PART], "output", {_LOGITS: logits}, wanted)
    codes = {
        name: _to_draw(files[PROMPT_PART], name, found[name], sizes, is_per_mask)
        for name, (_, sizes) in drawn.items()
        if name in found and name != _IOU
    }
    if not codes:
        raise BundleError(f"{files[MASK_PART]}: takes none of the codes of {files[PROMPT_PART]}")
    masks_need = {name: shared[name] for name in drawn if name in shared and name not in codes}
    check_graph(files[MASK_PART], "input", {**masks_need, **codes}, drawn)
    return SplitSignature(
        tuple(name for name in shared if name != "embedding"),
        tuple(needed),
        tuple(masks_need),
        tuple(codes),
        is_per_mask,
        side,
    )


def _shapes(file: str, described: Described) -> dict[str, Shape]:
    """Return the shapes of a graph's outputs, all of which must be float32."""
    shapes: dict[str, Shape] = {
        name: tuple(size if isinstance(size, int) else None for size in sizes)
        for name, (_, sizes) in described.items()
    }
    check_graph(file, "output", shapes, described)
    return shapes


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


class SplitDecoder:
    """Three graphs and what lies between them."""

    def __init__(self, run: Run, signature: SplitSignature) -> None:
        """Keep the engine's way to run a graph."""
        self._run = run
        self.signature = signature

    def share(self, embedding: NDArray[np.float32]) -> Arrays:
        """Make what all prompts of a frame share, of its embedding `[1, C, S', S']`.

        Raises:
            InferenceError: if the graph fails.
        """
        return {**self._run(FRAME_PART, {"embedding": embedding}), "embedding": embedding}

    def decode(
        self, shared: Arrays, coords: NDArray[np.float32], labels: NDArray[np.float32]
    ) -> DecodedToCodes:
        """Decode N prompts of K points; nothing is drawn.

        Args:
            shared: from `share`.
            coords: `[N, K, 2]` in pixels of the padded square.
            labels: `[N, K]`.

        Raises:
            InferenceError: if the graph fails or its output is not what it must be.
        """
        needed = {name: shared[name] for name in self.signature.prompts_need}
        parts = []
        for part in _chunks(len(coords), self.signature.prompts_at_once):
            points = {"point_coords": coords[part], "point_labels": labels[part]}
            found = self._run(PROMPT_PART, {**needed, **points})
            parts.append(self._checked(found, len(coords[part])))
        codes = {name: [row for p in parts for row in p[name]] for name in self.signature.codes}
        return DecodedToCodes(self, shared, np.concatenate([p[_IOU] for p in parts]), codes)

    def _checked(self, found: Arrays, count: int) -> Arrays:
        """Return the results for `count` prompts; what is in the codes is seen when drawn."""
        check_output(_IOU, found[_IOU], (None, MASKS))
        for name in (_IOU, *self.signature.codes):
            if len(found[name]) != count:
                raise InferenceError(
                    f"{PROMPT_PART} gave {len(found[name])} results for {count} prompts"
                )
        return found

    def draw(self, shared: Arrays, codes: Arrays) -> NDArray[np.float32]:
        """Draw masks, `[n, M, M]` or those of prompts, `[n, 3, M, M]`, of their codes.

        Raises:
            InferenceError: if the graph fails or its output is not what it must be.
        """
        needed = {name: shared[name] for name in self.signature.masks_need}
        logits = self._run(MASK_PART, {**needed, **codes})[_LOGITS]
        side = self.signature.side
        count = len(next(iter(codes.values())))
        masks = () if self.signature.is_per_mask else (MASKS,)
        return check_output(_LOGITS, logits, (count, *masks, side, side))


@dataclass(frozen=True)
class DecodedToCodes:
    """Masks of N prompts that are drawn when somebody wants them; `codes` are rows, one a prompt.

    Valid for as long as it is kept.
    """

    decoder: SplitDecoder
    shared: Arrays
    predicted_iou: NDArray[np.float32]
    codes: Mapping[str, Sequence[NDArray[np.float32]]]

    def logits(self, prompts: NDArray[np.int64], masks: NDArray[np.int64]) -> NDArray[np.float32]:
        """Draw the masks `masks[i]` of the prompts `prompts[i]`: `[n, M, M]`; see `Decoded`."""
        signature = self.decoder.signature
        logits = np.empty((len(prompts), signature.side, signature.side), np.float32)
        if signature.is_per_mask:
            for part in _chunks(len(prompts), signature.rows_at_once):
                logits[part] = self._draw(prompts[part], masks[part])
            return logits
        wanted = np.unique(prompts)
        for part in _chunks(len(wanted), signature.rows_at_once):
            places = np.flatnonzero(np.isin(prompts, wanted[part]))
            rows = np.searchsorted(wanted[part], prompts[places])
            logits[places] = self._draw(wanted[part])[rows, masks[places]]
        return logits

    def _draw(
        self, prompts: NDArray[np.int64], masks: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """Draw all masks of prompts, or those of codes of masks."""
        codes = {}
        for name, rows in self.codes.items():
            chosen = [rows[prompt] for prompt in prompts.tolist()]
            if masks is not None:
                chosen = [row[mask] for row, mask in zip(chosen, masks.tolist(), strict=True)]
            codes[name] = np.stack(chosen)
        return self.decoder.draw(self.shared, codes)


def _chunks(count: int, size: int) -> Iterator[slice]:
    """Cut a range into slices of at most `size`."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
