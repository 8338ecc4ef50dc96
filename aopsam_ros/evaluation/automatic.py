"""The whole pipeline on one photograph: how well do its masks match, for what effort?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.evaluation.metrics import closest, coverage, iou_matrix, one_to_one
from aopsam_ros.results import PromptState, Segmentation

# What making prompts costs: the encoder and the decoder run whatever the source.
PROMPT_STAGES = ("predictor", "sampling", "filtering")


@dataclass(frozen=True)
class ImageResult:
    """One photograph's figures.

    Attributes:
        one_to_one: Greedy mean IoU over the true masks, one predicted mask for each, 0 where none.
        closest: The paper's reading: mean IoU of each predicted mask with its closest true one.
        coverage_50: Share of the true masks found with an IoU of at least 0.5.
        coverage_75: Likewise 0.75.
        masks: Predicted masks.
        prompts: Prompts that the source submitted.
        kept: Those that had a part in a predicted mask.
        eliminated: Those that ASF filtering dropped undecoded.
        decoder_calls: Prompts decoded.
        prompt_ms: Milliseconds for predictor, sampling and filtering.
        total_ms: Milliseconds from the picture to the masks.
    """

    one_to_one: float
    closest: float
    coverage_50: float
    coverage_75: float
    masks: int
    prompts: int
    kept: int
    eliminated: int
    decoder_calls: int
    prompt_ms: float
    total_ms: float


def measure(segmentation: Segmentation, truth: list[NDArray[np.bool_]]) -> ImageResult:
    """Compare a segmentation with the true masks, of which there must be one at least."""
    iou = iou_matrix(segmentation, truth)
    states = [prompt.state for prompt in segmentation.prompts]
    timings = segmentation.timings_ms
    return ImageResult(
        one_to_one=one_to_one(iou),
        closest=closest(iou),
        coverage_50=coverage(iou, 0.5),
        coverage_75=coverage(iou, 0.75),
        masks=len(segmentation.masks),
        prompts=len(states),
        kept=states.count(PromptState.DECODED),
        eliminated=states.count(PromptState.ELIMINATED),
        decoder_calls=segmentation.decoder_calls,
        prompt_ms=sum(timings[stage] for stage in PROMPT_STAGES),
        total_ms=timings["total"],
    )
