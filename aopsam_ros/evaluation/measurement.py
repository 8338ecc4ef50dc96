"""One configuration, measured image by image, each result kept at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

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


@dataclass(frozen=True)
class FrameBefore:
    """A stream's frame before: its key, and how far the image's content moved since, pixels."""

    key: str
    shift: tuple[float, float]


@dataclass(frozen=True)
class LabelledMasks:
    """An image's ground truth as COCO's compressed run lengths; none without pycocotools."""

    height: int
    width: int
    texts: tuple[str, ...]

    @classmethod
    def of(cls, image: EvaluationImage) -> LabelledMasks:
        """Compress an image's ground truth."""
        height, width = image.rgb.shape[:2]
        masks = image.ground_truth if HAS_PYCOCOTOOLS else ()
        return cls(height, width, tuple(compress(crop_of(m), height, width) for m in masks))


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
        self,
        groups: dict[str, list[str]],
        labelled: dict[str, LabelledMasks],
        detector_ms: float,
    ) -> dict[str, MeanFigures]:
        """Return the figures over each group of images.

        Args:
            groups: keys of images by the group's name; one group has them all.
            labelled: the ground truth of all images.
            detector_ms: what the boxes had cost for each image.
        """
        coco = self._coco(labelled)
        extra_ms = detector_ms if self.segmenter.needs_boxes else 0.0
        means = {}
        for name, keys in groups.items():
            stored = dict(self.results(keys))
            figures = [one.figures for one in stored.values()]
            means[name] = mean_figures(figures, extra_ms, coco.figures(stored) if coco else None)
        return means

    def _coco(self, labelled: dict[str, LabelledMasks]) -> CocoEvaluation | None:
        if not HAS_PYCOCOTOOLS:
            return None
        images = {}
        for key, stored in self.results(list(labelled)):
            truth = labelled[key]
            images[key] = CocoImage(
                truth.height, truth.width, truth.texts, stored.predicted, stored.scores
            )
        return CocoEvaluation(images)

    def _boxes_of(self, image: EvaluationImage) -> Boxes | None:
        if not self.segmenter.needs_boxes or self.boxes is None:
            return None
        return self.boxes.find(image.labelled.name, [image.dataset.name])
