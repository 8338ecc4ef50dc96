"""Running a decoder in three parts: once a frame, once a prompt, and for masks that are wanted.

Most masks end at their predicted IoU: these are never drawn. Knows no engine; one lends it a way to
run a graph on arrays. What the graphs are: `split_signature`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.bundle.loading import FRAME_PART, MASK_PART, PROMPT_PART
from aopsam_ros.bundle.signatures import MASKS, check_output
from aopsam_ros.bundle.split_signature import IOU, LOGITS, SplitSignature
from aopsam_ros.engines.fitting import Fitted, Sides, put_back
from aopsam_ros.errors import InferenceError

Arrays = Mapping[str, NDArray[np.float32]]
Run = Callable[[str, Arrays], Arrays]  # a graph's name and inputs to its outputs


class Shared(NamedTuple):
    """What all prompts of a frame share, by name, and rows and columns of the masks drawn of it."""

    arrays: Arrays
    drawn: Sides


@dataclass
class EncodedImage:
    """An embedding where the encoder left it, and what its prompts share once there are any.

    `fitted` is the part of the padded square that was encoded.
    """

    embedding: Any  # the engine's own type
    fitted: Fitted
    shared: Shared | None = None


class SplitDecoder:
    """Three graphs and what lies between them."""

    def __init__(self, run: Run, signature: SplitSignature) -> None:
        """Keep the engine's way to run a graph."""
        self.run = run
        self.signature = signature

    def share(self, embedding: NDArray[np.float32], fitted: Fitted) -> Shared:
        """Make what all prompts of a frame share.

        Args:
            embedding: `[1, C, rows, columns]`.
            fitted: the part of the padded square that was encoded.

        Raises:
            InferenceError: if the graph fails.
        """
        arrays = self.run(FRAME_PART, {"embedding": embedding})
        return Shared({**arrays, "embedding": embedding}, fitted.of(self.signature.side))

    def decode(
        self, shared: Shared, coords: NDArray[np.float32], labels: NDArray[np.float32]
    ) -> DecodedToCodes:
        """Decode N prompts of K points; nothing is drawn.

        Args:
            shared: from `share`.
            coords: `[N, K, 2]` in pixels of the padded square.
            labels: `[N, K]`.

        Raises:
            InferenceError: if there is no prompt, the graph fails or its output is not what it
                must be.
        """
        if len(coords) == 0:
            raise InferenceError(f"{PROMPT_PART} needs a prompt at least")
        needed = {name: shared.arrays[name] for name in self.signature.prompts_need}
        parts = []
        for part in _chunks(len(coords), self.signature.prompts_at_once):
            points = {"point_coords": coords[part], "point_labels": labels[part]}
            found = self.run(PROMPT_PART, {**needed, **points})
            parts.append(self._checked(found, len(coords[part])))
        codes = {name: [row for p in parts for row in p[name]] for name in self.signature.codes}
        return DecodedToCodes(self, shared, np.concatenate([p[IOU] for p in parts]), codes)

    def _checked(self, found: Arrays, count: int) -> Arrays:
        """Return the results for `count` prompts; what is in the codes is seen when drawn."""
        check_output(IOU, found[IOU], (None, MASKS))
        for name in (IOU, *self.signature.codes):
            if len(found[name]) != count:
                raise InferenceError(
                    f"{PROMPT_PART} gave {len(found[name])} results for {count} prompts"
                )
        return found

    def draw(self, shared: Shared, codes: Arrays) -> NDArray[np.float32]:
        """Draw masks, `[n, rows, columns]`, or those of prompts, `[n, 3, ...]`, of their codes.

        Raises:
            InferenceError: if the graph fails or its output is not what it must be.
        """
        needed = {name: shared.arrays[name] for name in self.signature.masks_need}
        logits = self.run(MASK_PART, {**needed, **codes})[LOGITS]
        count = len(next(iter(codes.values())))
        masks = () if self.signature.is_per_mask else (MASKS,)
        return check_output(LOGITS, logits, (count, *masks, *shared.drawn))


@dataclass(frozen=True)
class DecodedToCodes:
    """Masks of N prompts that are drawn when somebody wants them; `codes` are rows, one a prompt.

    Valid for as long as it is kept.
    """

    decoder: SplitDecoder
    shared: Shared
    predicted_iou: NDArray[np.float32]
    codes: Mapping[str, Sequence[NDArray[np.float32]]]

    def logits(self, prompts: NDArray[np.int64], masks: NDArray[np.int64]) -> NDArray[np.float32]:
        """Draw the masks `masks[i]` of the prompts `prompts[i]`: `[n, M, M]`; see `Decoded`."""
        signature = self.decoder.signature
        logits = np.empty((len(prompts), *self.shared.drawn), np.float32)
        if signature.is_per_mask:
            for part in _chunks(len(prompts), signature.rows_at_once):
                logits[part] = self._draw(prompts[part], masks[part])
            return put_back(logits, signature.side, "edge")
        wanted = np.unique(prompts)
        for part in _chunks(len(wanted), signature.rows_at_once):
            places = np.flatnonzero(np.isin(prompts, wanted[part]))
            rows = np.searchsorted(wanted[part], prompts[places])
            logits[places] = self._draw(wanted[part])[rows, masks[places]]
        return put_back(logits, signature.side, "edge")

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
