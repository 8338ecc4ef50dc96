"""What the decoder gives: predicted IoU for all masks, logits only for those asked for.

A prompt's three masks of 256 x 256 logits are 786 kB; most of them end at their predicted IoU. An
engine on a GPU leaves the logits there until somebody wants them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Decoded(Protocol):
    """The masks of N prompts; valid until the engine decodes again."""

    @property
    def predicted_iou(self) -> NDArray[np.float32]:
        """Predicted IoU, `[N, 3]`."""

    def logits(self, prompts: NDArray[np.int64], masks: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return logits `[n, M, M]` of the mask `masks[i]` of the prompt `prompts[i]`.

        Raises:
            InferenceError: if they cannot be had, or are not finite.
        """


@dataclass(frozen=True)
class DecodedOnHost:
    """Logits `[N, 3, M, M]` that are in the host's memory already."""

    all_logits: NDArray[np.float32]
    predicted_iou: NDArray[np.float32]

    def logits(self, prompts: NDArray[np.int64], masks: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return logits `[n, M, M]`; see `Decoded`."""
        return self.all_logits[prompts, masks]


def all_logits(decoded: Decoded) -> NDArray[np.float32]:
    """Return the logits of every mask, `[N, 3, M, M]`.

    Raises:
        InferenceError: if they cannot be had, or are not finite.
    """
    if isinstance(decoded, DecodedOnHost):
        return decoded.all_logits
    prompts, masks = np.indices(decoded.predicted_iou.shape).reshape(2, -1)
    found = decoded.logits(prompts, masks)
    return found.reshape(*decoded.predicted_iou.shape, *found.shape[1:])
