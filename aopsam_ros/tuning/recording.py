"""What a model gives for one photograph, written down once, so that trials only look it up.

No option changes what the graphs answer: options decide which prompts are asked, and what becomes
of the answers. So each prompt is decoded once, when the first trial asks for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.evaluation.metrics import Crop, pairwise_iou
from aopsam_ros.geometry import FrameGeometry
from aopsam_ros.masks.rle import decode
from aopsam_ros.masks.selection import MASK_THRESHOLD
from aopsam_ros.masks.upscaling import Upscaler
from aopsam_ros.prompting.boxes import Boxes
from aopsam_ros.prompting.features import FeatureMap


@dataclass(frozen=True)
class RecordedPrompt:
    """The answer to one prompt, as far as a trial can ask for it.

    `predicted_iou` float32 `[3]`; `levels` uint8 `[3 thresholds, 3 masks, bytes]`, one bit for each
    logit above -offset, 0 and offset; `iou` `[3, truth]` and `area` `[3]` at the source's size.
    """

    predicted_iou: NDArray[np.float32]
    levels: NDArray[np.uint8]
    iou: NDArray[np.float64]
    area: NDArray[np.int64]


@dataclass
class Recording:
    """One photograph: what its encoding gives, and the prompts that were decoded on it.

    `place` finds the photograph again: a data set's number and an index. `instances` counts its
    true masks. What the prompt source has no use for is None.
    """

    place: tuple[int, int]
    geometry: FrameGeometry
    instances: int
    confidence_map: NDArray[np.float32] | None
    features: FeatureMap | None
    boxes: Boxes | None
    prompts: dict[bytes, RecordedPrompt] = field(default_factory=dict)


class RecordedMasks:
    """Recorded prompts in the place of `Decoded`: logits on the right side of each threshold."""

    def __init__(self, prompts: Sequence[RecordedPrompt], size: int, offset: float) -> None:
        """Stand for N prompts with logits `[N, 3, size, size]`."""
        self._prompts, self._size = prompts, size
        # By how many of the three thresholds a logit was above.
        self._values = np.array([-offset - 1, -offset / 2, offset / 2, offset + 1], np.float32)

    @property
    def predicted_iou(self) -> NDArray[np.float32]:
        """Predicted IoU, `[N, 3]`."""
        return np.stack([prompt.predicted_iou for prompt in self._prompts])

    def logits(self, prompts: NDArray[np.int64], masks: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return logits `[n, M, M]` that pass the same thresholds as the true ones."""
        shape = (len(prompts), self._size, self._size)
        if len(prompts) == 0:
            return np.zeros(shape, np.float32)
        pairs = zip(prompts.tolist(), masks.tolist(), strict=True)
        packed = np.stack([self._prompts[prompt].levels[:, mask] for prompt, mask in pairs])
        bits = np.unpackbits(packed, axis=2, count=self._size**2)
        return self._values[bits.sum(axis=1, dtype=np.uint8)].reshape(shape)


def record_prompt(
    logits: NDArray[np.float32],
    predicted_iou: NDArray[np.float32],
    offset: float,
    upscale: Upscaler,
    ground_truth: Sequence[Crop],
) -> RecordedPrompt:
    """Write one prompt's answer down.

    Args:
        logits: `[3, M, M]` over the padded square.
        predicted_iou: `[3]`.
        offset: of the stability score, in logits.
        upscale: of the photograph.
        ground_truth: its instances.
    """
    thresholds = (MASK_THRESHOLD - offset, MASK_THRESHOLD, MASK_THRESHOLD + offset)
    flat = logits.reshape(len(logits), -1)
    full = [Crop(mask.bbox, decode(mask), mask.area) for mask in upscale(logits)]
    return RecordedPrompt(
        predicted_iou=predicted_iou.copy(),
        levels=np.stack([np.packbits(flat > threshold, axis=1) for threshold in thresholds]),
        iou=pairwise_iou(full, ground_truth),
        area=np.array([crop.area for crop in full], np.int64),
    )


def prompt_key(coords: NDArray[np.float64], labels: NDArray[np.float32]) -> bytes:
    """Return a name for a prompt's points `[K, 2]` and labels `[K]`."""
    return coords.tobytes() + labels.tobytes()
