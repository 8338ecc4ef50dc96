"""One configuration, measured image by image, each result kept at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from aopsam_ros.evaluation.coco_metrics import HAS_PYCOCOTOOLS, OBJECT, CocoImage, compress, expand
from aopsam_ros.evaluation.configurations import Configuration
from aopsam_ros.evaluation.figures import Figures, mean_figures, measure
from aopsam_ros.evaluation.images import EvaluationImage
from aopsam_ros.evaluation.store import Store
from aopsam_ros.masks.iou import crop_of
from aopsam_ros.options import SegmenterOptions
from aopsam_ros.prompting.box_file import BoxFile
from aopsam_ros.results import Segmentation
from aopsam_ros.segmentation.segmenter import Segmenter
from aopsam_ros.streaming.flicker import flicker


@dataclass
class Measurement:
    """A configuration with its segmenter, options, results, and boxes for sources that need them.

    Configurations that come to the same options share their `store`.
    """

    configuration: Configuration
    segmenter: Segmenter
    options: SegmenterOptions
    store: Store
    boxes: BoxFile | None = None
    _is_warm: bool = field(default=False, init=False)

    def segment(self, image: EvaluationImage) -> Segmentation:
        """Segment an image as configured.

        Raises:
            InputError: if the file of boxes has no entry for it.
            InferenceError: if a graph fails.
        """
        return self.segmenter.segment(image.rgb, self.options, image.find_boxes(self.boxes))

    def measure(
        self, image: EvaluationImage, before: str = "", shift: tuple[float, float] = (0.0, 0.0)
    ) -> None:
        """Measure an image that is not in the store yet; errors as `segment`.

        Args:
            image: to measure.
            before: key of the frame before, where the images are a stream.
            shift: how far the image's content moved since, x and y in pixels.
        """
        if image.key in self.store.results:
            return
        if not self._is_warm:
            self.segment(image)  # engines take longer for their first image
            self._is_warm = True
        found = self.segment(image)
        size = found.height, found.width
        crops = [crop_of(mask) for mask in found.masks]
        lost = None
        if before in self.store.results:
            masks = self.store.results[before]["coco"]["predicted"]
            lost = flicker([expand(text, *size) for _, text, _ in masks], crops, shift, size)
        figures = measure(found, image.ground_truth, lost)
        if HAS_PYCOCOTOOLS:
            figures["coco"] = CocoImage(
                size=list(size),
                ground_truth=image.run_lengths,
                predicted=[
                    (OBJECT, compress(crop, *size), score)
                    for crop, score in zip(crops, figures["scores"], strict=True)
                ],
            )
        self.store.put(image.key, figures)

    def means(self, groups: Mapping[str, Sequence[str]], detector_ms: float) -> dict[str, Figures]:
        """Return the figures over each group of images, all of them measured.

        Args:
            groups: keys of images by the group's name.
            detector_ms: what the boxes had cost for each image.
        """
        extra_ms = detector_ms if self.boxes else 0.0
        return {
            name: mean_figures([self.store.results[key] for key in keys], extra_ms)
            for name, keys in groups.items()
        }
