"""What `aopsam evaluate --task` measures beside instances: edges, and salient things."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.evaluation.edges import THRESHOLDS, boundaries, edge_counts, edge_figures
from aopsam_ros.evaluation.images import EvaluationImage
from aopsam_ros.masks.rle import decode_full
from aopsam_ros.masks.saliency import most_salient
from aopsam_ros.prompting.box_file import BoxFile
from aopsam_ros.segmentation.segmenter import Segmenter

TASKS = ("instances", "edges", "salient")


def evaluate_edges(
    segmenter: Segmenter, images: Iterable[EvaluationImage], boxes: BoxFile | None = None
) -> dict[str, float]:
    """Compare edges with the boundaries of the ground truth's regions, of each annotator.

    Returns:
        ods, ois, and at the ODS threshold precision and recall.
    """
    counts = []
    for image in images:
        found = segmenter.segment(image.rgb, boxes=image.find_boxes(boxes), edges=True)
        if found.edge_map is not None:
            lines = np.array([boundaries(layer) for layer in image.labelled.layers])
            if not image.labelled.is_by_annotator:
                lines = np.asarray(lines.any(axis=0, keepdims=True))
            counts.append(edge_counts(found.edge_map, lines, THRESHOLDS))
    figures = edge_figures(counts, THRESHOLDS)
    return figures._asdict()


def evaluate_salient(
    segmenter: Segmenter,
    images: Iterable[EvaluationImage],
    count: int,
    boxes: BoxFile | None = None,
) -> dict[str, float]:
    """Compare the union of the most salient masks with everything that is labelled.

    Returns:
        iou: mean over the images.
        mae: mean absolute error, the share of wrong pixels.
        best: mean IoU of the one mask that fits best, whatever its rank.
        prompts: mean number that were decoded.
    """
    rows = []
    for image in images:
        found = segmenter.segment(image.rgb, boxes=image.find_boxes(boxes))
        wanted = np.any(image.ground_truth, axis=0)
        shape = wanted.shape
        masks = {mask.id: decode_full(mask, *shape) for mask in found.masks}
        chosen = most_salient(found.masks, image.rgb, count)
        union = np.any([masks[m.id] for m in chosen], axis=0) if chosen else np.zeros(shape, bool)
        best = max((_iou(mask, wanted) for mask in masks.values()), default=0.0)
        wrong = float(np.mean(union != wanted))
        rows.append((_iou(union, wanted), wrong, best, found.prompts_decoded))
    return dict(zip(("iou", "mae", "best", "prompts"), np.mean(rows, axis=0).tolist(), strict=True))


def _iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    either = int(np.count_nonzero(first | second))
    return int(np.count_nonzero(first & second)) / either if either else 1.0
