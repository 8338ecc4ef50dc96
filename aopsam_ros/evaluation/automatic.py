"""The whole pipeline: how well do its masks match, for how many decoder calls?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aopsam_ros.evaluation.metrics import closest, instance_masks, iou_matrix, one_to_one
from aopsam_ros.segmenter import Segmenter
from aopsam_ros.training.datasets import LabelledImage


@dataclass(frozen=True)
class AutomaticResult:
    """One photograph's figures: mean IoU in both readings, masks, decoder calls, milliseconds."""

    one_to_one: float
    closest: float
    masks: float
    decoder_calls: float
    total_ms: float


def evaluate_automatic(segmenter: Segmenter, image: LabelledImage) -> AutomaticResult | None:
    """Segment a photograph without prompts; None if it has no counted instance."""
    truth = instance_masks(image.layers)
    if not truth:
        return None
    segmentation = segmenter.segment(image.rgb)
    iou = iou_matrix(segmentation, truth)
    return AutomaticResult(
        one_to_one(iou),
        closest(iou),
        len(segmentation.masks),
        segmentation.decoder_calls,
        segmentation.timings_ms["total"],
    )


def mean(results: list[AutomaticResult]) -> AutomaticResult:
    """Average over photographs, each counting once."""
    fields = AutomaticResult.__dataclass_fields__
    return AutomaticResult(*(float(np.mean([getattr(r, f) for r in results])) for f in fields))
