"""Which of a prompt's masks are worth keeping: predicted IoU and stability.

All arrays are at the decoder's low resolution; nothing here is the size of the source image.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.engines.base import Decoded
from aopsam_ros.options import MaskOptions

MASK_THRESHOLD = 0.0  # a pixel belongs to a mask where its logit is above this
STABILITY_OFFSET = 1.0  # SAM's, used where a bundle names no other


@dataclass(frozen=True)
class LowResMasks:
    """Masks that passed the filters: one row each.

    `logits` float32 `[n, M, M]` over the padded square, `predicted_iou` and `stability` float32
    `[n]` in 0-1, `prompt` int64 `[n]`: which prompt a mask comes from, `candidate` int64 `[n]`:
    which of that prompt's masks it is.
    """

    logits: NDArray[np.float32]
    predicted_iou: NDArray[np.float32]
    stability: NDArray[np.float32]
    prompt: NDArray[np.int64]
    candidate: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of masks."""
        return len(self.prompt)

    def binary(self, rows: int, columns: int) -> NDArray[np.bool_]:
        """Threshold the top left `rows` x `columns`, the part that shows the image."""
        return self.logits[:, :rows, :columns] > MASK_THRESHOLD

    def take(self, indices: NDArray[np.int64]) -> LowResMasks:
        """Return the masks at `indices`, in that order."""
        return LowResMasks(
            self.logits[indices],
            self.predicted_iou[indices],
            self.stability[indices],
            self.prompt[indices],
            self.candidate[indices],
        )


def concatenate(parts: Sequence[LowResMasks], size: int) -> LowResMasks:
    """Join the masks of several decoder calls; `size` is M, for when there are none."""
    if not parts:
        none = np.zeros(0, np.float32)
        empty = np.zeros((0, size, size), np.float32)
        return LowResMasks(empty, none, none, *np.zeros((2, 0), np.int64))
    return LowResMasks(
        np.concatenate([part.logits for part in parts]),
        np.concatenate([part.predicted_iou for part in parts]),
        np.concatenate([part.stability for part in parts]),
        np.concatenate([part.prompt for part in parts]),
        np.concatenate([part.candidate for part in parts]),
    )


def stability_score(logits: Iterable[NDArray[np.float32]], offset: float) -> NDArray[np.float32]:
    """IoU of a mask cut at a high and at a low threshold: how little its outline depends on it.

    SAM's stability score (segment-anything, `calculate_stability_score`): the mask at threshold
    +offset lies inside the one at -offset, so their IoU is the ratio of their areas. SAM takes it
    at full resolution; at low resolution it costs a sixteenth or less.

    Args:
        logits: n masks `[rows, columns]`, the part that shows the image.
        offset: in logits.

    Returns:
        float32 `[n]` in 0-1; 0 where the mask is empty at both thresholds.
    """
    scores = []
    for mask in logits:
        inner = np.count_nonzero(mask > MASK_THRESHOLD + offset)
        outer = np.count_nonzero(mask > MASK_THRESHOLD - offset)
        scores.append(inner / outer if outer else 0.0)
    return np.array(scores, np.float32)


def count_pixels(masks: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the number of pixels set in each mask `[n, ...]`, int64 `[n]`."""
    # NumPy counts a whole array ten times faster than along an axis.
    return np.array([np.count_nonzero(mask) for mask in masks], np.int64)


class Promising(NamedTuple):
    """Masks of enough predicted IoU: `logits` `[n, M, M]`, `predicted_iou` `[n]`.

    Mask `columns[i]` of the decoded prompt `rows[i]`.
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    predicted_iou: NDArray[np.float32]
    logits: NDArray[np.float32]


def promising(decoded: Decoded, options: MaskOptions) -> Promising:
    """Choose among each prompt's masks; only those of enough predicted IoU are drawn.

    With `candidates` "best" a prompt's mask is the one of the highest predicted IoU (the first of
    equals), as SAM's predictor does for a single answer; with "all" its three masks compete, as in
    SAM's automatic generator.

    Raises:
        InferenceError: if the logits cannot be had.
    """
    predicted_iou = decoded.predicted_iou
    rows, columns = _candidates(predicted_iou, options.candidates)
    good = predicted_iou[rows, columns] >= options.predicted_iou_threshold
    rows, columns = rows[good], columns[good]
    return Promising(rows, columns, predicted_iou[rows, columns], decoded.logits(rows, columns))


def select(
    found: Promising,
    prompts: NDArray[np.int64],
    valid: tuple[int, int],
    options: MaskOptions,
    offset: float = STABILITY_OFFSET,
) -> LowResMasks:
    """Keep the masks whose stability reaches its threshold.

    Args:
        found: masks of N prompts.
        prompts: `[N]`, the prompts' numbers, kept beside the masks.
        valid: rows and columns of M x M that show the image.
        options: thresholds.
        offset: of the stability score, in logits.
    """
    stability = stability_score(found.logits[:, : valid[0], : valid[1]], offset)
    stable = stability >= options.stability_threshold
    return LowResMasks(
        found.logits[stable],
        np.clip(found.predicted_iou[stable], 0.0, 1.0),
        stability[stable],
        prompts[found.rows[stable]],
        found.columns[stable],
    )


def _candidates(
    predicted_iou: NDArray[np.float32], which: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows and columns of the masks that compete."""
    prompts, masks = predicted_iou.shape
    if which == "all":
        return np.repeat(np.arange(prompts), masks), np.tile(np.arange(masks), prompts)
    return np.arange(prompts), np.argmax(predicted_iou, axis=1)
