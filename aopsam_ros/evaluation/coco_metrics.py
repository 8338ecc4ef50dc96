"""COCO's mask metrics without classes: average recall and precision, by pycocotools."""

import contextlib
import importlib.util
import io
from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.masks.iou import Crop, crop_of

HAS_PYCOCOTOOLS = importlib.util.find_spec("pycocotools") is not None
MOST_MASKS = (10, 100, 1000)  # best ones of an image that may count
# COCO's, pixels squared, made for its images of about 640 x 480.
SIZES = {"": (0, 1e10), "_small": (0, 32**2), "_medium": (32**2, 96**2), "_large": (96**2, 1e10)}
RECALLS = tuple(f"ar_{most}{size}" for size in SIZES for most in MOST_MASKS)
COCO_FIGURES = (*RECALLS, "average_precision")


class CocoImage(TypedDict):
    """One image's masks as COCO's compressed run lengths, and the score of each predicted one."""

    size: list[int]  # height and width
    ground_truth: list[str]
    predicted: list[str]
    scores: list[float]


def compress(crop: Crop, height: int, width: int) -> str:
    """Return a mask as COCO's compressed run lengths over the whole image."""
    from pycocotools import mask as coco

    x, y, w, h = crop.box
    mask = np.zeros((height, width), np.uint8, order="F")
    mask[y : y + h, x : x + w] = crop.pixels
    return str(coco.encode(mask)["counts"].decode("ascii"))


def expand(text: str, height: int, width: int) -> Crop:
    """Read what `compress` returned."""
    from pycocotools import mask as coco

    return crop_of(coco.decode({"size": [height, width], "counts": text.encode()}).astype(np.bool_))


def coco_figures(images: Sequence[CocoImage]) -> dict[str, float | None]:
    """Return `COCO_FIGURES`, in 0-1 over IoU 0.50 to 0.95; None where nothing is to be found.

    Average recall is by masks an image and size, such as `ar_100_small`; average precision takes at
    most 1000 masks an image. What is predicted where nothing is labelled counts as wrong, so AP
    falls on data that is not labelled everywhere.
    """
    if not images:
        return dict.fromkeys(COCO_FIGURES)
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints what it does
        labelled, found = COCO(), COCO()
        for data, kind in ((labelled, "ground_truth"), (found, "predicted")):
            data.dataset = _dataset(images, kind)
            data.createIndex()
        evaluation = COCOeval(labelled, found, "segm")
        evaluation.params.useCats = 0
        evaluation.params.maxDets = list(MOST_MASKS)
        evaluation.params.areaRng = [list(bounds) for bounds in SIZES.values()]
        evaluation.params.areaRngLbl = list(SIZES)
        evaluation.evaluate()
        evaluation.accumulate()
    recall = evaluation.eval["recall"][:, 0]  # [thresholds, sizes, most masks]
    precision = evaluation.eval["precision"][:, :, 0, 0, -1]
    values = (_mean(recall[:, s, m]) for s in range(len(SIZES)) for m in range(len(MOST_MASKS)))
    return dict(zip(COCO_FIGURES, (*values, _mean(precision) or 0.0), strict=True))


def _dataset(images: Sequence[CocoImage], kind: str) -> dict[str, Any]:
    """Return what COCO would read from a file of annotations: the masks of one kind."""
    from pycocotools import mask as coco

    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(images, start=1):
        texts = image["ground_truth"] if kind == "ground_truth" else image["predicted"]
        scores = [1.0] * len(texts) if kind == "ground_truth" else image["scores"]
        for text, score in zip(texts, scores, strict=True):
            segmentation = {"size": image["size"], "counts": text}
            area = float(coco.area(segmentation))
            entry = {"segmentation": segmentation, "area": area, "score": score, "iscrowd": 0}
            entry |= {"id": len(annotations) + 1, "image_id": number, "category_id": 1}
            annotations.append(entry)
    described = [
        {"id": number, "height": image["size"][0], "width": image["size"][1]}
        for number, image in enumerate(images, start=1)
    ]
    categories = [{"id": 1, "name": "object"}]
    return {"images": described, "annotations": annotations, "categories": categories}


def _mean(values: NDArray[np.float64]) -> float | None:
    """Average what was evaluated; COCO marks the rest with -1."""
    evaluated = values[values > -1]
    return float(evaluated.mean()) if evaluated.size else None
