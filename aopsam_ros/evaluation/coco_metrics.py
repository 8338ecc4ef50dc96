"""COCO's mask metrics by pycocotools: average recall and precision, with classes or without."""

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
CocoMask = tuple[str, str, float]  # class, COCO's compressed run lengths, score
OBJECT = "object"  # class of all masks, where there are no others


class CocoImage(TypedDict):
    """One image's masks; those of the ground truth have the score 1."""

    size: list[int]  # height and width
    ground_truth: list[CocoMask]
    predicted: list[CocoMask]


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
    found = accumulate(
        images,
        [OBJECT],
        maxDets=list(MOST_MASKS),
        areaRng=[list(bounds) for bounds in SIZES.values()],
        areaRngLbl=list(SIZES),
    )
    recall = found["recall"][:, 0]  # [thresholds, sizes, most masks]
    precision = found["precision"][:, :, 0, 0, -1]
    values = (_mean(recall[:, s, m]) for s in range(len(SIZES)) for m in range(len(MOST_MASKS)))
    return dict(zip(COCO_FIGURES, (*values, _mean(precision) or 0.0), strict=True))


def accumulate(
    images: Sequence[CocoImage], classes: Sequence[str], **params: object
) -> dict[str, NDArray[np.float64]]:
    """Return COCO's `precision` and `recall`, of these classes in their order.

    `params` replace COCO's own parameters of an evaluation. Masks of other classes do not count.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints what it does
        labelled, found = COCO(), COCO()
        labelled.dataset = _dataset(images, [image["ground_truth"] for image in images], classes)
        found.dataset = _dataset(images, [image["predicted"] for image in images], classes)
        for data in (labelled, found):
            data.createIndex()
        evaluation = COCOeval(labelled, found, "segm")
        vars(evaluation.params).update(params)
        evaluation.evaluate()
        evaluation.accumulate()
    result: dict[str, NDArray[np.float64]] = evaluation.eval
    return result


def _dataset(
    images: Sequence[CocoImage], masks: Sequence[list[CocoMask]], classes: Sequence[str]
) -> dict[str, Any]:
    """Return what COCO would read from a file of annotations: the masks of one kind."""
    from pycocotools import mask as coco

    number = {name: place for place, name in enumerate(classes, start=1)}
    annotations: list[dict[str, Any]] = []
    for place, (image, some) in enumerate(zip(images, masks, strict=True), start=1):
        for name, text, score in some:
            if name in number:
                segmentation = {"size": image["size"], "counts": text}
                entry = {"segmentation": segmentation, "area": float(coco.area(segmentation))}
                entry |= {"id": len(annotations) + 1, "image_id": place, "score": score}
                annotations.append(entry | {"category_id": number[name], "iscrowd": 0})
    described = [
        {"id": place, "height": image["size"][0], "width": image["size"][1]}
        for place, image in enumerate(images, start=1)
    ]
    categories = [{"id": place, "name": name} for name, place in number.items()]
    return {"images": described, "annotations": annotations, "categories": categories}


def _mean(values: NDArray[np.float64]) -> float | None:
    """Average what was evaluated; COCO marks the rest with -1."""
    evaluated = values[values > -1]
    return float(evaluated.mean()) if evaluated.size else None
