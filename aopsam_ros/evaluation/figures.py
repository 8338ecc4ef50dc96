"""The figures of one image, and their means over many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.evaluation.boundary import mean_boundary_iou
from aopsam_ros.evaluation.calibration import ScoreBin, expected_calibration_error, reliability
from aopsam_ros.evaluation.coco_metrics import RECALLS, CocoFigures
from aopsam_ros.evaluation.metrics import (
    Crop,
    closest,
    coverage,
    crop_of,
    near_copies,
    one_to_one,
    pairwise_iou,
)
from aopsam_ros.evaluation.panoptic import PanopticCounts, count_panoptic, mostly_unlabelled
from aopsam_ros.results import PromptState, Segmentation

# What making prompts costs: the encoder and the decoder run whatever the source.
PROMPT_STAGES = ("predictor", "sampling", "filtering")


@dataclass(frozen=True)
class ImageFigures:
    """One image's figures.

    Attributes:
        panoptic: Matches and errors that panoptic quality is made of.
        one_to_one: Greedy mean IoU over the ground truth, one predicted mask for each, 0 where
            none.
        boundary_iou: Likewise the mean boundary IoU of the same pairs.
        closest: The paper's reading: mean IoU of each predicted mask with its closest ground truth.
        coverage_50: Share of the ground truth found with an IoU of at least 0.5.
        coverage_75: Likewise 0.75.
        near_copies: Share of the masks that a better one shows already.
        masks: Predicted masks.
        prompts: Prompts that the source submitted.
        kept: Those that had a part in a predicted mask.
        eliminated: Those that ASF filtering dropped undecoded.
        prompts_decoded: Prompts decoded.
        prompt_ms: Milliseconds for predictor, sampling and filtering.
        total_ms: Milliseconds from the image to the masks.
        scores: Of the predicted masks that lie mostly on labelled pixels.
        ious: Of these masks with their closest ground truth.
        flicker: In a stream, the share of the masks of the frame before without a partner in this
            one; None where no frame or no mask was before.
    """

    panoptic: PanopticCounts
    one_to_one: float
    boundary_iou: float
    closest: float
    coverage_50: float
    coverage_75: float
    near_copies: float
    masks: int
    prompts: int
    kept: int
    eliminated: int
    prompts_decoded: int
    prompt_ms: float
    total_ms: float
    scores: tuple[float, ...] = ()
    ious: tuple[float, ...] = ()
    flicker: float | None = None


def score_of(segmentation: Segmentation) -> list[float]:
    """Return what the masks are ranked by, in 0-1: their predicted IoU."""
    return [float(mask.predicted_iou) for mask in segmentation.masks]


def measure(
    segmentation: Segmentation,
    ground_truth: Sequence[NDArray[np.bool_]],
    flicker: float | None = None,
) -> ImageFigures:
    """Compare a segmentation with the ground truth: one mask at least, bool `[H, W]` each."""
    masks, labelled = [crop_of(mask) for mask in segmentation.masks], _crops(ground_truth)
    iou, scores = pairwise_iou(masks, labelled), score_of(segmentation)
    unlabelled = mostly_unlabelled(masks, ground_truth)
    states = [prompt.state for prompt in segmentation.prompts]
    timings = segmentation.timings_ms
    return ImageFigures(
        panoptic=count_panoptic(iou, unlabelled),
        one_to_one=one_to_one(iou),
        boundary_iou=mean_boundary_iou(
            masks, labelled, iou, (segmentation.height, segmentation.width)
        ),
        closest=closest(iou),
        coverage_50=coverage(iou, 0.5),
        coverage_75=coverage(iou, 0.75),
        near_copies=near_copies(masks, scores),
        masks=len(masks),
        prompts=len(states),
        kept=states.count(PromptState.KEPT),
        eliminated=states.count(PromptState.ELIMINATED),
        prompts_decoded=segmentation.prompts_decoded,
        prompt_ms=sum(timings[stage] for stage in PROMPT_STAGES),
        total_ms=timings["total"],
        scores=tuple(score for score, out in zip(scores, unlabelled, strict=True) if not out),
        ious=tuple(iou[~unlabelled].max(1).tolist()),
        flicker=flicker,
    )


def _crops(masks: Sequence[NDArray[np.bool_]]) -> list[Crop]:
    return [crop_of(mask) for mask in masks]


@dataclass(frozen=True)
class MeanFigures:
    """Figures over several images; shares in 0-1.

    PQ, SQ, RQ, the recalls, AP and the calibration error are over all masks of all images; the
    others are means in which each image counts once. Latencies are medians and 95th percentiles;
    a detector's time, where boxes had cost it, is part of both. `eliminated` is the share of all
    submitted prompts. `recall` holds `coco_metrics.RECALLS`. None: not measured.
    """

    images: int
    pq: float
    sq: float
    rq: float
    recall: dict[str, float | None]
    average_precision: float | None
    one_to_one: float
    boundary_iou: float
    closest: float
    coverage_50: float
    coverage_75: float
    near_copies: float
    flicker: float | None
    calibration_error: float | None
    masks: float
    prompts: float
    kept: float
    prompts_decoded: float
    eliminated: float
    prompt_ms: float
    prompt_ms_p95: float
    total_ms: float
    total_ms_p95: float
    reliability: tuple[ScoreBin, ...] = field(default=(), compare=False)


def mean_figures(
    images: Sequence[ImageFigures], detector_ms: float = 0.0, coco: CocoFigures | None = None
) -> MeanFigures:
    """Put the figures of one image or more together.

    Args:
        images: their figures.
        detector_ms: what a detector of boxes took for each, on top of what was measured.
        coco: COCO's figures over the same images.
    """

    def mean(name: str) -> float:
        return float(np.mean([getattr(image, name) for image in images]))

    panoptic = sum((image.panoptic for image in images), PanopticCounts())
    flickers = [image.flicker for image in images if image.flicker is not None]
    prompt_ms = np.array([image.prompt_ms for image in images]) + detector_ms
    total_ms = np.array([image.total_ms for image in images]) + detector_ms
    submitted = sum(image.prompts for image in images)
    bins = reliability(
        [score for image in images for score in image.scores],
        [iou for image in images for iou in image.ious],
    )
    names = ("one_to_one", "boundary_iou", "closest", "coverage_50", "coverage_75", "near_copies")
    return MeanFigures(
        images=len(images),
        pq=panoptic.panoptic_quality,
        sq=panoptic.segmentation_quality,
        rq=panoptic.recognition_quality,
        recall=dict(coco.recall) if coco else dict.fromkeys(RECALLS),
        average_precision=coco.precision if coco else None,
        flicker=float(np.mean(flickers)) if flickers else None,
        calibration_error=expected_calibration_error(bins),
        **{name: mean(name) for name in (*names, "masks", "prompts", "kept", "prompts_decoded")},
        eliminated=sum(image.eliminated for image in images) / submitted if submitted else 0.0,
        prompt_ms=float(np.median(prompt_ms)),
        prompt_ms_p95=float(np.percentile(prompt_ms, 95)),
        total_ms=float(np.median(total_ms)),
        total_ms_p95=float(np.percentile(total_ms, 95)),
        reliability=bins,
    )
