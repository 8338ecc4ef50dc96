"""The figures of one image, and their means over many."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.evaluation.coco_metrics import coco_figures
from aopsam_ros.evaluation.metrics import (
    closest,
    coverage,
    expected_calibration_error,
    mean_boundary_iou,
    near_copies,
    one_to_one,
    reliability,
)
from aopsam_ros.evaluation.panoptic import count_panoptic, mostly_unlabelled, panoptic_quality
from aopsam_ros.masks.iou import crop_of, pairwise_iou
from aopsam_ros.results import PromptState, Segmentation

Figures = dict[str, Any]  # by name, as in results.json
# What making prompts costs: the encoder and the decoder run whatever the source.
PROMPT_STAGES = ("predictor", "sampling", "filtering")
SHARES = ("one_to_one", "boundary_iou", "closest", "coverage_50", "coverage_75", "near_copies")
COUNTS = ("masks", "prompts", "kept", "prompts_decoded")


def measure(
    segmentation: Segmentation,
    ground_truth: Sequence[NDArray[np.bool_]],
    flicker: float | None = None,
) -> Figures:
    """Compare a segmentation with the ground truth: one mask at least, bool `[H, W]` each.

    Returns:
        matched, matched_iou, false_positives, missed: see `count_panoptic`.
        one_to_one: Greedy mean IoU over the ground truth, one predicted mask for each, 0 where
            none.
        boundary_iou: Likewise the mean boundary IoU of the same pairs.
        closest: The paper's reading: mean IoU of each predicted mask with its closest ground truth.
        coverage_50, coverage_75: Share of the ground truth found with at least that IoU.
        near_copies: Share of the masks that a better one shows already.
        masks: Predicted masks.
        prompts: Prompts that the source submitted.
        kept: Those that had a part in a predicted mask.
        eliminated: Those that ASF filtering dropped undecoded.
        prompts_decoded: Prompts decoded.
        prompt_ms: Milliseconds for predictor, sampling and filtering.
        total_ms: Milliseconds from the image to the masks.
        scores: What the masks are ranked by, 0-1: calibrated where the bundle has weights.
        ious: IoU of each mask with its closest ground truth.
        unlabelled: Whether each mask lies mostly on unlabelled pixels.
        flicker: In a stream, the share of the masks of the frame before without a partner in this
            one; None where no frame or no mask was before.
    """
    masks, labelled = (
        [crop_of(mask) for mask in some] for some in (segmentation.masks, ground_truth)
    )
    iou = pairwise_iou(masks, labelled)
    scores = [float(mask.score) for mask in segmentation.masks]
    unlabelled = mostly_unlabelled(masks, ground_truth)
    states = [prompt.state for prompt in segmentation.prompts]
    timings, size = segmentation.timings_ms, (segmentation.height, segmentation.width)
    return {
        **count_panoptic(iou, unlabelled),
        "one_to_one": one_to_one(iou),
        "boundary_iou": mean_boundary_iou(masks, labelled, iou, size),
        "closest": closest(iou),
        "coverage_50": coverage(iou, 0.5),
        "coverage_75": coverage(iou, 0.75),
        "near_copies": near_copies(masks, scores),
        "masks": len(masks),
        "prompts": len(states),
        "kept": states.count(PromptState.KEPT),
        "eliminated": states.count(PromptState.ELIMINATED),
        "prompts_decoded": segmentation.prompts_decoded,
        "prompt_ms": sum(timings[stage] for stage in PROMPT_STAGES),
        "total_ms": timings["total"],
        "scores": scores,
        "ious": iou.max(1).tolist(),
        "unlabelled": unlabelled.tolist(),
        "flicker": flicker,
    }


def mean_figures(images: Sequence[Figures], detector_ms: float = 0.0) -> Figures:
    """Put the figures of one image or more together; shares in 0-1, None: not measured.

    PQ, SQ, RQ, the recalls, AP and the calibration error are over all masks of all images; the
    others are means in which each image counts once. Latencies are medians and 95th percentiles.
    `eliminated` is the share of all submitted prompts.

    Args:
        images: their figures, with a `CocoImage` as `coco` where COCO's are wanted.
        detector_ms: what a detector of boxes took for each, on top of what was measured.
    """

    def values(name: str) -> list[Any]:
        return [image[name] for image in images]

    def concatenated(name: str) -> NDArray[Any]:
        return np.array(list(chain.from_iterable(values(name))))

    matching = ("matched", "matched_iou", "false_positives", "missed")
    flickers = [value for value in values("flicker") if value is not None]
    counts = ~concatenated("unlabelled").astype(np.bool_)
    scores, ious = (concatenated(name)[counts].tolist() for name in ("scores", "ious"))
    bins = reliability(scores, ious)
    submitted = sum(values("prompts"))
    figures = {
        "images": len(images),
        **panoptic_quality(*(sum(values(name)) for name in matching)),
        **coco_figures([image["coco"] for image in images if "coco" in image]),
        **{name: float(np.mean(values(name))) for name in SHARES},
        "flicker": float(np.mean(flickers)) if flickers else None,
        "calibration_error": expected_calibration_error(bins),
        **{name: float(np.mean(values(name))) for name in COUNTS},
        "eliminated": sum(values("eliminated")) / submitted if submitted else 0.0,
    }
    for name in ("prompt_ms", "total_ms"):
        milliseconds = np.array(values(name)) + detector_ms
        figures[name] = float(np.median(milliseconds))
        figures[f"{name}_p95"] = float(np.percentile(milliseconds, 95))
    return {**figures, "reliability": bins}
