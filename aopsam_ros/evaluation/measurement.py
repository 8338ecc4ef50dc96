"""One configuration, measured image by image, each result kept at once.

An interrupted evaluation goes on where it stopped.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from aopsam_ros.errors import InputError
from aopsam_ros.evaluation.coco_metrics import HAS_PYCOCOTOOLS, OBJECT, CocoImage, compress, expand
from aopsam_ros.evaluation.configurations import Configuration
from aopsam_ros.evaluation.figures import Figures, mean_figures, measure
from aopsam_ros.evaluation.images import EvaluationImage
from aopsam_ros.masks.iou import crop_of
from aopsam_ros.options import SegmenterOptions
from aopsam_ros.prompting.box_file import BoxFile
from aopsam_ros.results import Segmentation
from aopsam_ros.segmentation.segmenter import Segmenter
from aopsam_ros.streaming.flicker import flicker

FORMAT = 4  # raise it when what is measured changes


def configuration_key(description: Mapping[str, Any]) -> str:
    """Return a short name that differs for whatever gives other results."""
    content = json.dumps({"format": FORMAT, "release": release(), **description}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def release() -> str:
    """Return the package's version: another one may find other masks; "" run from its sources."""
    try:
        return version("aopsam_ros")
    except PackageNotFoundError:
        return ""


class Store:
    """Results of one configuration: a line of JSON for each image, appended at once.

    `results` holds them by the image's key; without a path, in memory only.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Read what an earlier run left; a line that was cut off is measured again."""
        self._path = path
        self.results: dict[str, dict[str, Any]] = {}
        if path is not None and path.is_file():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    content = json.loads(line)
                    self.results[content.pop("key")] = content
                except (ValueError, KeyError, TypeError, AttributeError):
                    continue

    def put(self, key: str, results: dict[str, Any]) -> None:
        """Keep an image's results.

        Raises:
            InputError: if they cannot be written.
        """
        self.results[key] = results
        if self._path is None:
            return
        line = json.dumps({"key": key, **results}) + "\n"
        try:
            # The break first: a line that was cut off before must not spoil this one.
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"\n{line}" if file.tell() else line)
        except OSError as error:
            raise InputError(f"{self._path}: cannot be written: {error.strerror}") from None


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
        """Measure an image unless it is in the store with this frame before; errors as `segment`.

        In a stream, `before` is the key of the frame before, and `shift` how far the content moved
        since, x and y in pixels.
        """
        known = self.store.results.get(image.key)
        if known is not None and known.get("before", "") == before:
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
        figures = measure(found, image.ground_truth, lost) | ({"before": before} if before else {})
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
        """Return the figures over each group of images, given by keys, all of them measured."""
        extra_ms = detector_ms if self.boxes else 0.0
        return {
            name: mean_figures([self.store.results[key] for key in keys], extra_ms)
            for name, keys in groups.items()
        }
