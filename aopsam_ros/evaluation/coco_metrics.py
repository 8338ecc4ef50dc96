"""COCO's mask metrics without classes: average recall and precision, by pycocotools."""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.evaluation.metrics import Crop, crop_of

HAS_PYCOCOTOOLS = importlib.util.find_spec("pycocotools") is not None
MOST_MASKS = (10, 100, 1000)  # best ones of an image that may count
# COCO's, pixels squared, made for its images of about 640 x 480.
SIZES = {
    "": (0, 1e10),
    "_small": (0, 32**2),
    "_medium": (32**2, 96**2),
    "_large": (96**2, 1e10),
}
RECALLS = tuple(f"ar_{most}{size}" for size in SIZES for most in MOST_MASKS)


@dataclass(frozen=True)
class CocoImage:
    """One image's masks as COCO's compressed run lengths, and the score of each predicted one."""

    height: int
    width: int
    ground_truth: tuple[str, ...]
    predicted: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()


@dataclass(frozen=True)
class CocoFigures:
    """Figures in 0-1 over IoU 0.50 to 0.95; None where nothing of that size is labelled.

    Attributes:
        recall: Average recall, by `RECALLS`: `ar_100`, `ar_100_small`.
        precision: Average precision with at most 1000 masks an image.
    """

    recall: Mapping[str, float | None]
    precision: float


def compress(crop: Crop, height: int, width: int) -> str:
    """Return a mask as COCO's compressed run lengths: column by column over the whole image."""
    from pycocotools import mask as coco

    x, y, w, h = crop.box
    columns = np.zeros((w, height), np.bool_)
    columns[:, y : y + h] = crop.pixels.T
    flat = np.concatenate(([False], columns.ravel(), [False]))
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + x * height
    counts = np.diff(edges, prepend=0, append=height * width).tolist()
    encoded = coco.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return str(encoded["counts"].decode("ascii"))


def expand(text: str, height: int, width: int) -> Crop:
    """Read what `compress` returned."""
    from pycocotools import mask as coco

    return crop_of(coco.decode({"size": [height, width], "counts": text.encode()}).astype(np.bool_))


class CocoEvaluation:
    """Matches masks once, and gives the figures of all images or of some.

    What is predicted where nothing is labelled counts as wrong, so AP falls on data that is not
    labelled everywhere.
    """

    def __init__(self, images: Mapping[str, CocoImage]) -> None:
        """Match the predicted masks of images, by name, at all IoU thresholds."""
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        self._numbers = {name: number for number, name in enumerate(images, start=1)}
        reference, predicted = _datasets(list(images.values()))
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints what it does
            labelled = COCO()
            labelled.dataset = reference
            labelled.createIndex()
            results = labelled.loadRes(predicted) if predicted else COCO()
            self._evaluation = COCOeval(labelled, results, "segm")
            parameters = self._evaluation.params
            parameters.useCats = 0
            parameters.maxDets = list(MOST_MASKS)
            parameters.areaRng = [list(bounds) for bounds in SIZES.values()]
            parameters.areaRngLbl = list(SIZES)
            self._evaluation.evaluate()
        self._matched = self._evaluation.evalImgs  # by size, then by image

    def figures(self, names: Iterable[str]) -> CocoFigures:
        """Return the figures over some of the images."""
        evaluation, chosen = self._evaluation, [self._numbers[name] for name in names]
        count = len(self._numbers)
        # `accumulate` takes the images that come first, so it is shown the chosen ones only.
        evaluation.evalImgs = [
            self._matched[size * count + number - 1]
            for size in range(len(SIZES))
            for number in chosen
        ]
        evaluation.params.imgIds = evaluation._paramsEval.imgIds = chosen
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation.accumulate()
        recall = evaluation.eval["recall"][:, 0]  # [thresholds, sizes, most masks]
        precision = evaluation.eval["precision"][:, :, 0, 0, -1]
        values = (_mean(recall[:, s, m]) for s in range(len(SIZES)) for m in range(len(MOST_MASKS)))
        return CocoFigures(dict(zip(RECALLS, values, strict=True)), _mean(precision) or 0.0)


def _datasets(images: Sequence[CocoImage]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return what COCO would read from a file of annotations and from one of results."""
    described: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    predicted: list[dict[str, Any]] = []
    for number, image in enumerate(images, start=1):
        size = [image.height, image.width]
        described.append({"id": number, "height": image.height, "width": image.width})
        for text in image.ground_truth:
            entry = _entry(number, size, text)
            annotations.append(entry | {"id": len(annotations) + 1, "iscrowd": 0})
        for text, score in zip(image.predicted, image.scores, strict=True):
            predicted.append(_entry(number, size, text) | {"score": score})
    categories = [{"id": 1, "name": "object"}]
    labelled = {"images": described, "annotations": annotations, "categories": categories}
    return {"info": {}, **labelled}, predicted


def _entry(image: int, size: list[int], text: str) -> dict[str, Any]:
    from pycocotools import mask as coco

    segmentation = {"size": size, "counts": text}
    area = float(coco.area(segmentation))
    return {"image_id": image, "category_id": 1, "segmentation": segmentation, "area": area}


def _mean(values: NDArray[np.float64]) -> float | None:
    """Average what was evaluated; COCO marks the rest with -1."""
    evaluated = values[values > -1]
    return float(evaluated.mean()) if evaluated.size else None
