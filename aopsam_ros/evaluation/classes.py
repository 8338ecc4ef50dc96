"""Masks with labels against ground truth with classes: PQ, SQ, RQ, AP and mIoU by class."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.data.labelled_images import LabelledImage
from aopsam_ros.evaluation.coco_metrics import CocoImage, accumulate, compress
from aopsam_ros.evaluation.images import named_masks
from aopsam_ros.evaluation.panoptic import count_panoptic, mostly_unlabelled, panoptic_quality
from aopsam_ros.labels.composing import compose
from aopsam_ros.labels.label_set import LabelOptions
from aopsam_ros.labels.labeller import Labeller
from aopsam_ros.masks.iou import crop_of, pairwise_iou
from aopsam_ros.masks.rle import decode_full
from aopsam_ros.prompting.boxes import Boxes
from aopsam_ros.results import Segmentation
from aopsam_ros.segmentation.segmenter import FrameEmbedding, Segmenter
from aopsam_ros.streaming.stream_segmenter import StreamSegmenter

MEASURES = ("pq", "sq", "rq", "ap", "miou")
Named = Sequence[tuple[str, NDArray[np.bool_]]]
Counts = dict[str, dict[str, float]]  # by class


@dataclass
class ClassFigures:
    """Adds up images; only classes of the ground truth count, but wrong masks of them do."""

    _counts: Counts = field(default_factory=lambda: defaultdict(lambda: defaultdict(float)))
    _images: list[CocoImage] = field(default_factory=list)
    masks: int = 0  # with a label

    def add(self, segmentation: Segmentation, named: Named) -> None:
        """Count an image, segmented and labelled.

        `named` is ground truth, class and mask, bool `[H, W]`; what it leaves out is unlabelled.
        """
        size = segmentation.height, segmentation.width
        found = [mask for mask in segmentation.masks if mask.label]
        self.masks += len(found)
        everything = [mask for _, mask in named]
        crops = [crop_of(mask) for mask in found]
        unlabelled = mostly_unlabelled(crops, everything)
        known = np.logical_or.reduce(everything)
        for name in {name for name, _ in named} | {mask.label for mask in found}:
            own = [place for place, mask in enumerate(found) if mask.label == name]
            wanted = [mask for kind, mask in named if kind == name]
            iou = pairwise_iou([crops[place] for place in own], [crop_of(m) for m in wanted])
            for key, value in count_panoptic(iou, unlabelled[own]).items():
                self._counts[name][key] += value
            # Of pixels, those count where anything is labelled.
            predicted = np.any([decode_full(found[place], *size) for place in own], axis=0) & known
            right = np.any(wanted, axis=0)
            self._counts[name]["shared"] += int(np.count_nonzero(predicted & right))
            self._counts[name]["either"] += int(np.count_nonzero(predicted | right))
        self._images.append(
            {
                "size": list(size),
                "ground_truth": [
                    (name, compress(crop_of(mask), *size), 1.0) for name, mask in named
                ],
                "predicted": [
                    (mask.label, compress(crop, *size), mask.label_score * mask.score)
                    for mask, crop, no in zip(found, crops, unlabelled, strict=True)
                    if not no
                ],
            }
        )

    def by_class(self) -> dict[str, dict[str, float]]:
        """Return `MEASURES` and the number of `instances` of each class of the ground truth."""
        precision = _average_precision(self._images)
        rows = {}
        for name in sorted(self._counts):
            count = self._counts[name]
            instances = count["matched"] + count["missed"]
            if not instances:
                continue
            keys = ("matched", "matched_iou", "false_positives", "missed")
            rows[name] = {
                **panoptic_quality(*(count[key] for key in keys)),
                "ap": precision.get(name, 0.0),
                "miou": count["shared"] / max(1.0, count["either"]),
                "instances": instances,
            }
        return rows


class ClassEvaluation:
    """Labels masks and measures them, with and without uniting those of one thing.

    Attributes:
        figures: "apart" and "united".
    """

    def __init__(
        self,
        segmenter: Segmenter,
        labeller: Labeller | None,
        least_affinity: float = LabelOptions.merge_affinity,
    ) -> None:
        """Measure with the labeller's labels; None: with those of the ground truth.

        `least_affinity` is that from which masks are united.
        """
        self._segmenter, self._labeller = segmenter, labeller
        self._least_affinity = least_affinity
        self.figures = {"apart": ClassFigures(), "united": ClassFigures()}

    def add(self, image: LabelledImage, boxes: Boxes | None = None) -> None:
        """Measure an image; one without a class is left out.

        Raises:
            InferenceError: if a graph fails.
        """
        named = named_masks(image)
        if not named:
            return
        # As a frame that stands alone: in crops as well, where the options say so.
        annotate = None if self._labeller is None else self._label
        apart = StreamSegmenter(self._segmenter).segment(image.rgb, boxes=boxes, annotate=annotate)
        if self._labeller is None:
            apart = with_ground_truth_labels(apart, named)
        self.figures["apart"].add(apart, named)
        united = compose(apart, least_affinity=self._least_affinity)
        self.figures["united"].add(united, named)

    def _label(
        self, rgb: NDArray[np.uint8], frame: FrameEmbedding, found: Segmentation
    ) -> Segmentation:
        assert self._labeller is not None  # else nobody asks for labels
        return self._labeller.label(rgb, frame, found, LabelOptions())


def mean_over_classes(rows: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each measure; every class counts the same, as in COCO."""
    return {key: float(np.mean([row[key] for row in rows.values()])) for key in MEASURES}


def with_ground_truth_labels(segmentation: Segmentation, named: Named) -> Segmentation:
    """Label each mask with the class of the instance that it lies in by more than half.

    Of several, as of a person and the tie that is labelled on it, that of the highest IoU.
    """
    areas = np.array([np.count_nonzero(own) for _, own in named])
    masks = []
    for mask in segmentation.masks:
        pixels = decode_full(mask, segmentation.height, segmentation.width)
        shared = np.array([np.count_nonzero(pixels & own) for _, own in named])
        iou = np.where(2 * shared > mask.area, shared / (areas + mask.area - shared), 0.0)
        best = int(iou.argmax())
        is_inside = bool(iou[best] > 0)
        label = named[best][0] if is_inside else ""
        masks.append(replace(mask, label=label, label_score=float(is_inside)))
    return replace(segmentation, masks=tuple(masks))


def _average_precision(images: Sequence[CocoImage]) -> dict[str, float]:
    """Return COCO's AP of masks, IoU 0.50 to 0.95, of each class of the ground truth."""
    names = sorted({name for image in images for name, _, _ in image["ground_truth"]})
    precision = accumulate(images, names)["precision"][:, :, :, 0, -1]  # [IoU, recalls, classes]
    by_name = zip(names, np.moveaxis(np.maximum(precision, 0.0), 2, 0), strict=True)
    return {name: float(own.mean()) for name, own in by_name}
