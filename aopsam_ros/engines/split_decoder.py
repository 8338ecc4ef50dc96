"""Running a decoder in three parts: once a frame, once a prompt, and for masks that are wanted.

Most masks end at their predicted IoU: these are never rendered. Knows no engine: it gets a function
that runs a graph on arrays. What the graphs are: `split_signature`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.bundle.loading import FRAME_PART, MASK_PART, PROMPT_PART
from aopsam_ros.bundle.signatures import IOU, LOGITS, Shapes
from aopsam_ros.bundle.split_signature import SplitSignature
from aopsam_ros.engines.base import Arrays
from aopsam_ros.errors import InferenceError
from aopsam_ros.geometry import ContentArea, Sides

# A graph's name, its inputs, and sizes that some outputs must have, to its outputs.
Run = Callable[[str, Arrays, Shapes], Arrays]

# In one call; weights for a prompt are larger than weights for a mask.
PROMPTS_AT_ONCE, WEIGHTED_PROMPTS_AT_ONCE = 64, 4
MASKS_AT_ONCE, PROMPTS_RENDERED_AT_ONCE = 16, 2
LEAST_AT_ONCE = 4  # fewer prompts or masks are not worth a call of their own

T = TypeVar("T")


class FrameTensors(NamedTuple):
    """What all prompts of a frame share, by name, and rows and columns of its masks."""

    arrays: Arrays
    mask_sides: Sides


class ParallelCalls:
    """Calls of a graph side by side, in threads that start with the first and end with `close`.

    A decoder's parts are many small operators. Shared among threads one by one they take hardly
    less time; two calls at once, each for half of the prompts or masks, take two thirds.

    Attributes:
        threads: how many calls there are at once.
    """

    def __init__(self, threads: int = 1) -> None:
        """Make no more threads than needed: with one, calls are made by the caller."""
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads, "aopsam_decoder") if threads > 1 else None

    def in_chunks(self, call: Callable[[slice], T], count: int, largest: int) -> list[T]:
        """Call a function with slices of `range(count)`; return its results in order.

        Slices are at most `largest` long, and shorter where every thread has one then. The first
        error of a call is raised once all have ended.
        """
        size = min(largest, max(LEAST_AT_ONCE, -(-count // self.threads)))
        parts = [slice(start, min(start + size, count)) for start in range(0, count, size)]
        if self._pool is None or len(parts) == 1:
            return [call(part) for part in parts]
        futures = [self._pool.submit(call, part) for part in parts]
        for future in futures:
            future.exception()  # waits
        return [future.result() for future in futures]

    def close(self) -> None:
        """End the threads; later calls are made by the caller."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()


class SplitDecoder:
    """Three graphs and what lies between them."""

    def __init__(self, run: Run, signature: SplitSignature, calls: ParallelCalls) -> None:
        """Keep the engine's function that runs a graph, and how many of its calls run at once."""
        self.run = run
        self.signature = signature
        self.calls = calls

    def encode_frame(self, embedding: NDArray[np.float32], area: ContentArea) -> FrameTensors:
        """Compute what all prompts share of the embedding `[1, C, rows, columns]` of an area.

        Raises:
            InferenceError: if the graph fails.
        """
        arrays = self.run(FRAME_PART, {"embedding": embedding}, {})
        return FrameTensors({**arrays, "embedding": embedding}, area.in_map(self.signature.side))

    def decode(
        self, frame: FrameTensors, coords: NDArray[np.float32], labels: NDArray[np.float32]
    ) -> DecodedToWeights:
        """Decode N prompts of K points; no mask is rendered.

        Coordinates are `[N, K, 2]` in pixels of the padded square, labels `[N, K]`.

        Raises:
            InferenceError: if there is no prompt, the graph fails or its output is not what it
                must be.
        """
        if len(coords) == 0:
            raise InferenceError(f"{PROMPT_PART} needs a prompt at least")
        signature = self.signature
        tensors = {name: frame.arrays[name] for name in signature.prompt_tensors}
        size = PROMPTS_AT_ONCE if signature.is_per_mask else WEIGHTED_PROMPTS_AT_ONCE

        def decode(part: slice) -> Arrays:
            points = {"point_coords": coords[part], "point_labels": labels[part]}
            count = len(coords[part])
            found = self.run(PROMPT_PART, {**tensors, **points}, {IOU: (None, signature.num_masks)})
            for name in (IOU, *signature.mask_weights):  # weights are checked as rendered masks
                if len(found[name]) != count:
                    raise InferenceError(
                        f"{PROMPT_PART} gave {len(found[name])} results for {count} prompts"
                    )
            return found

        parts = self.calls.in_chunks(decode, len(coords), size)
        weights = {n: [row for found in parts for row in found[n]] for n in signature.mask_weights}
        return DecodedToWeights(self, frame, np.concatenate([p[IOU] for p in parts]), weights)


@dataclass(frozen=True)
class DecodedToWeights:
    """Masks of N prompts that are rendered when asked for; valid for as long as it is kept.

    `weights` are rows by name, one a prompt.
    """

    decoder: SplitDecoder
    frame: FrameTensors
    predicted_iou: NDArray[np.float32]
    weights: Mapping[str, Sequence[NDArray[np.float32]]]

    def logits(self, prompts: NDArray[np.int64], masks: NDArray[np.int64]) -> NDArray[np.float32]:
        """Render the masks `masks[i]` of the prompts `prompts[i]`; see `Decoded`."""
        signature, (rows, columns) = self.decoder.signature, self.frame.mask_sides
        logits = np.empty((len(prompts), signature.side, signature.side), np.float32)
        shown = logits[:, :rows, :columns]
        wanted, in_chunks = np.unique(prompts), self.decoder.calls.in_chunks

        def render(part: slice) -> None:
            shown[part] = self._render(prompts[part], masks[part])

        def render_prompts(part: slice) -> None:
            places = np.flatnonzero(np.isin(prompts, wanted[part]))
            among = np.searchsorted(wanted[part], prompts[places])
            shown[places] = self._render(wanted[part])[among, masks[places]]

        if signature.is_per_mask:
            in_chunks(render, len(prompts), MASKS_AT_ONCE)
        else:
            in_chunks(render_prompts, len(wanted), PROMPTS_RENDERED_AT_ONCE)
        # What was not rendered is as its neighbours at the border.
        logits[:, :rows, columns:] = logits[:, :rows, columns - 1 : columns]
        logits[:, rows:] = logits[:, rows - 1 : rows]
        return logits

    def _render(
        self, prompts: NDArray[np.int64], masks: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """Render one mask of each prompt, `[n, rows, columns]`, or all: `[n, M, rows, columns]`."""
        signature = self.decoder.signature
        inputs = {name: self.frame.arrays[name] for name in signature.mask_tensors}
        for name, rows in self.weights.items():
            chosen = [rows[prompt] for prompt in prompts.tolist()]
            if masks is not None:
                chosen = [row[mask] for row, mask in zip(chosen, masks.tolist(), strict=True)]
            inputs[name] = np.stack(chosen)
        every = () if signature.is_per_mask else (signature.num_masks,)
        sizes = {LOGITS: (len(prompts), *every, *self.frame.mask_sides)}
        return self.decoder.run(MASK_PART, inputs, sizes)[LOGITS]
