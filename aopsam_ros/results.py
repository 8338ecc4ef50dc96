"""What a segmented frame consists of: the types that every other part exchanges."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


class PromptState(enum.IntEnum):
    """What became of a candidate prompt; the values are the constants of `msg/Prompt.msg`."""

    DECODED = 0  # decoded, and at least one of its masks was kept
    ELIMINATED = 1  # dropped by ASF filtering before it was decoded
    REJECTED = 2  # decoded, but its masks failed a filter or were suppressed
    UNUSED = 3  # never decoded: the budget (prompts or time) was spent


@dataclass(frozen=True)
class Prompt:
    """A point prompt in source image pixels, and what became of it."""

    x: float
    y: float
    confidence: float
    state: PromptState


@dataclass(frozen=True)
class InstanceMask:
    """One segmented instance, run-length encoded inside its box.

    `bbox` is x, y, width, height in source image pixels and tight around the mask; `area` is the
    number of pixels set. `counts` are row-major run lengths inside the box: the first run is
    background (and may be 0), then foreground and background alternate; their sum is width times
    height.
    """

    id: int
    bbox: tuple[int, int, int, int]
    area: int
    predicted_iou: float
    stability_score: float
    prompt: tuple[float, float]
    prompt_confidence: float
    label: str
    counts: NDArray[np.uint32]

    def crop(self) -> NDArray[np.bool_]:
        """Return the pixels inside the box as bool `[h, w]`.

        Raises:
            MaskFormatError: if the counts do not fit the box.
        """
        from aopsam_ros.masks import decode

        return decode(self)

    def full(self, height: int, width: int) -> NDArray[np.bool_]:
        """Return the mask on the whole image as bool `[height, width]`.

        Raises:
            MaskFormatError: if the counts do not fit the box, or the box is not inside the image.
        """
        from aopsam_ros.masks import decode_full

        return decode_full(self, height, width)


@dataclass(frozen=True)
class Segmentation:
    """Everything found in one frame.

    `masks` are in descending order of area, so that painting them in order leaves the small ones on
    top. `confidence_map` is the prompt confidence map, float32 in 0-1, cropped to the part that
    shows the image; None where the prompts did not come from one. `timings_ms` holds milliseconds
    for preprocess, encoder, predictor, sampling, decoder, filtering, postprocess and total.
    """

    height: int
    width: int
    masks: tuple[InstanceMask, ...]
    prompts: tuple[Prompt, ...]
    decoder_calls: int
    timings_ms: Mapping[str, float]
    confidence_map: NDArray[np.float32] | None
    model: str
    prompt_source: str
