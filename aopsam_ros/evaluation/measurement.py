"""One configuration, measured image by image, each result kept at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from aopsam_ros.evaluation.coco_metrics import (
    HAS_PYCOCOTOOLS,
    CocoEvaluation,
    CocoImage,
    compress,
    expand,
)
from aopsam_ros.evaluation.configurations import Configuration
from aopsam_ros.evaluation.figures import MeanFigures, mean_figures, measure, score_of
from aopsam_ros.evaluation.flicker import flicker
from aopsam_ros.evaluation.images import EvaluationImage
from aopsam_ros.evaluation.metrics import crop_of
from aopsam_ros.evaluation.store import Store, StoredImage
from aopsam_ros.options import SegmenterOptions
from aopsam_ros.prompting.box_file import BoxFile
from aopsam_ros.prompting.boxes import Boxes
from aopsam_ros.results import Segmentation
from aopsam_ros.segmentation.segmenter import Segmenter


class FrameBefore(NamedTuple):
    """A stream's frame before: its key, and how far the image's content moved since, pixels."""

    key: str
    shift: tuple[float, float]


@dataclass
class Measurement:
    """A configuration with its segmenter, options, results, and boxes for sources that need them.

    Configurations that come to the same options share their `store`, which `key` names.
    """

    configuration: Configuration
    segmenter: Segmenter
    options: SegmenterOptions
    store: Store
    key: str
    boxes: BoxFile | None = None
    _is_warm: bool = field(default=False, init=False)

    def segment(self, image: EvaluationImage) -> Segmentation:
        """Segment an image as configured.

        Raises:
            InputError: if the file of boxes has no entry for it.
            InferenceError: if a graph fails.
        """
        return self.segmenter.segment(image.rgb, self.options, self._boxes_of(image))

    def measure(self, image: EvaluationImage, before: FrameBefore | None = None) -> None:
        """Measure an image that is not in the store yet; errors as `segment`.

        Args:
            image: to measure.
            before: the frame before, where the images are a stream.
        """
        if self.store.get(image.key) is not None:
            return
        if not self._is_warm:
            self.segment(image)  # engines take longer for their first image
            self._is_warm = True
        found = self.segment(image)
        size = found.height, found.width
        crops = [crop_of(mask) for mask in found.masks]
        previous = self.store.get(before.key) if before else None
        lost = None
        if before and previous:
            earlier = [expand(text, *size) for text in previous.predicted]
            lost = flicker(earlier, crops, before.shift, size)
        figures = measure(found, image.ground_truth, lost)
        texts = tuple(compress(crop, *size) for crop in crops) if HAS_PYCOCOTOOLS else ()
        self.store.put(image.key, StoredImage(figures, texts, tuple(score_of(found))))

    def results(self, keys: Sequence[str]) -> Iterator[tuple[str, StoredImage]]:
        """List the images that have been measured, with their results."""
        for key in keys:
            stored = self.store.get(key)
            if stored is not None:
                yield key, stored

    def means(
        self, groups: dict[str, list[str]], labelled: dict[str, CocoImage], detector_ms: float
    ) -> dict[str, MeanFigures]:
        """Return the figures over each group of images.

        Args:
            groups: keys of images by the group's name.
            labelled: the ground truth of all images; empty where COCO's figures are not wanted.
            detector_ms: what the boxes had cost for each image.
        """
        predicted = {
            key: replace(labelled[key], predicted=stored.predicted, scores=stored.scores)
            for key, stored in self.results(list(labelled))
        }
        coco = CocoEvaluation(predicted) if predicted else None
        extra_ms = detector_ms if self.segmenter.source.needs_boxes else 0.0
        means = {}
        for name, keys in groups.items():
            stored = dict(self.results(keys))
            figures = [one.figures for one in stored.values()]
            means[name] = mean_figures(figures, extra_ms, coco.figures(stored) if coco else None)
        return means

    def _boxes_of(self, image: EvaluationImage) -> Boxes | None:
        if not self.segmenter.source.needs_boxes or self.boxes is None:
            return None
        return self.boxes.find(image.labelled.name, [image.dataset.name])
