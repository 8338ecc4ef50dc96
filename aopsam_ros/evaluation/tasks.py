"""What `aopsam evaluate --task` measures beside instances: edges, salient things, proposals."""

from collections.abc import Iterable

import numpy as np

from aopsam_ros.evaluation.coco_metrics import OBJECT, RECALLS, CocoImage, coco_figures, compress
from aopsam_ros.evaluation.edges import boundaries, edge_counts, edge_figures
from aopsam_ros.evaluation.images import EvaluationImage
from aopsam_ros.evaluation.metrics import iou_matrix
from aopsam_ros.masks.iou import crop_of
from aopsam_ros.masks.rle import decode_full
from aopsam_ros.masks.saliency import most_salient
from aopsam_ros.prompting.box_file import BoxFile
from aopsam_ros.segmentation.segmenter import Segmenter

TASKS = ("instances", "edges", "salient", "proposals")


def evaluate_edges(
    segmenter: Segmenter, images: Iterable[EvaluationImage], boxes: BoxFile | None = None
) -> dict[str, float]:
    """Compare edges with the boundaries of the regions of each annotator; see `edge_figures`."""
    counts = []
    for image in images:
        options = segmenter.options.updated({"grid.crop_layers": 0})  # crops have no edges
        found = segmenter.segment(image.rgb, options, image.find_boxes(boxes), edges=True)
        if found.edge_map is not None:
            lines = np.array([boundaries(layer) for layer in image.labelled.layers])
            if not image.labelled.is_by_annotator:
                lines = np.asarray(lines.any(axis=0, keepdims=True))
            counts.append(edge_counts(found.edge_map, lines))
    return edge_figures(counts)


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
        union = np.zeros_like(wanted)
        for mask in most_salient(found.masks, image.rgb, count):
            union |= decode_full(mask, *wanted.shape)
        iou = np.count_nonzero(union & wanted) / np.count_nonzero(union | wanted)
        best = iou_matrix(found, [wanted]).max(initial=0.0)
        rows.append((iou, np.mean(union != wanted), best, found.prompts_decoded))
    return dict(zip(("iou", "mae", "best", "prompts"), np.mean(rows, axis=0).tolist(), strict=True))


def evaluate_proposals(
    segmenter: Segmenter, images: Iterable[EvaluationImage], boxes: BoxFile | None = None
) -> dict[str, float]:
    """Return average recall of the masks ranked as `~/detections` ranks them, by proposal score.

    It is that of `RECALLS`; those of sizes that no instance has are left out. Needs pycocotools.
    """
    measured = []
    for image in images:
        found = segmenter.segment(image.rgb, boxes=image.find_boxes(boxes))
        size = found.height, found.width
        ranked = [
            (OBJECT, compress(crop_of(mask), *size), mask.proposal_score) for mask in found.masks
        ]
        measured.append(
            CocoImage(size=list(size), ground_truth=image.run_lengths, predicted=ranked)
        )
    figures = coco_figures(measured)
    return {name: value for name in RECALLS if (value := figures[name]) is not None}
