"""COCO's mask metrics without classes: AR@1000 and AP, by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.results import Segmentation

MOST_DETECTIONS = 1000


@dataclass(frozen=True)
class CocoImage:
    """One photograph's masks as COCO's compressed run lengths.

    `truth` and `found` hold the text of each mask; `scores` the predicted IoU of the found ones.
    """

    height: int
    width: int
    truth: tuple[str, ...]
    found: tuple[str, ...]
    scores: tuple[float, ...]


def compress(mask: NDArray[np.bool_]) -> str:
    """Return a mask, bool `[H, W]`, as COCO's compressed run lengths."""
    from pycocotools import mask as coco

    counts = coco.encode(np.asfortranarray(mask, np.uint8))["counts"]
    return str(counts.decode("ascii"))


def found_masks(segmentation: Segmentation) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Return the masks of a segmentation as COCO's run lengths, and their predicted IoU."""
    size = segmentation.height, segmentation.width
    texts = tuple(compress(mask.full(*size)) for mask in segmentation.masks)
    return texts, tuple(mask.predicted_iou for mask in segmentation.masks)


def recall_and_precision(images: Sequence[CocoImage]) -> tuple[float, float]:
    """Return AR@1000 and AP over IoU 0.50 to 0.95, classes left out (useCats=0), both in 0-1.

    What is found where nothing is labelled counts as wrong, so AP falls on data that is not
    labelled everywhere.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth, found = _datasets(images)
    if not found:
        return 0.0, 0.0
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools talks
        reference = COCO()
        reference.dataset = truth
        reference.createIndex()
        evaluation = COCOeval(reference, reference.loadRes(found), "segm")
        evaluation.params.useCats = 0
        evaluation.params.maxDets = [MOST_DETECTIONS]
        evaluation.params.areaRng = evaluation.params.areaRng[:1]
        evaluation.params.areaRngLbl = evaluation.params.areaRngLbl[:1]
        evaluation.evaluate()
        evaluation.accumulate()
    return _mean(evaluation.eval["recall"]), _mean(evaluation.eval["precision"])


def _datasets(images: Sequence[CocoImage]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return what COCO would read from a file of annotations and from one of results."""
    described: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for number, image in enumerate(images, start=1):
        size = [image.height, image.width]
        described.append({"id": number, "height": image.height, "width": image.width})
        for text in image.truth:
            entry = _entry(number, size, text)
            annotations.append(entry | {"id": len(annotations) + 1, "iscrowd": 0})
        for text, score in zip(image.found, image.scores, strict=True):
            found.append(_entry(number, size, text) | {"score": score})
    categories = [{"id": 1, "name": "object"}]
    truth = {"images": described, "annotations": annotations, "categories": categories}
    return {"info": {}, **truth}, found


def _entry(image: int, size: list[int], text: str) -> dict[str, Any]:
    from pycocotools import mask as coco

    segmentation = {"size": size, "counts": text}
    area = float(coco.area(segmentation))
    return {"image_id": image, "category_id": 1, "segmentation": segmentation, "area": area}


def _mean(values: NDArray[np.float64]) -> float:
    """Average what was evaluated; COCO marks the rest with -1."""
    evaluated = values[values > -1]
    return float(evaluated.mean()) if evaluated.size else 0.0
