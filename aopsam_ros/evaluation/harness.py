"""The one way every configuration is measured: the same photographs, the same loaded model.

Photographs are the outer loop: what else the machine does then touches all configurations alike,
and an interrupted run has compared them all on the photographs it came to.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from aopsam_ros.data.datasets import InstanceDataset
from aopsam_ros.errors import DatasetError
from aopsam_ros.evaluation.automatic import measure
from aopsam_ros.evaluation.coco_metrics import CocoImage, compress, found_masks
from aopsam_ros.evaluation.coco_metrics import recall_and_precision as coco_metrics
from aopsam_ros.evaluation.configurations import Configuration
from aopsam_ros.evaluation.photographs import Photograph, choose, read
from aopsam_ros.evaluation.store import Store, Stored, configuration_key
from aopsam_ros.evaluation.summary import Row, summarize
from aopsam_ros.options import SegmenterOptions
from aopsam_ros.prompting.box_file import BoxFile
from aopsam_ros.prompting.boxes import Boxes
from aopsam_ros.segmentation.segmenter import Segmenter

ALL = "all"


@dataclass
class Measured:
    """A configuration, ready to be run, and what it gave."""

    configuration: Configuration
    segmenter: Segmenter
    options: SegmenterOptions
    store: Store
    key: str
    warm: bool = False


@dataclass
class Harness:
    """Measures configurations on photographs.

    Args:
        folder: where results are kept between runs; None keeps them in memory.
        settings: options for every configuration, over the bundle's own.
        boxes: for the sources that need them.
        detector_ms: what those boxes had cost for each photograph.
        threads: of the engine, for the record.
        with_coco: whether AR@1000 and AP are wanted; needs pycocotools.
    """

    folder: Path | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    boxes: BoxFile | None = None
    detector_ms: float = 0.0
    threads: int = 0
    with_coco: bool = False
    by_set: dict[str, list[str]] = field(default_factory=dict)
    places: dict[str, tuple[InstanceDataset, int]] = field(default_factory=dict)
    _truth: dict[str, tuple[int, int, tuple[str, ...]]] = field(default_factory=dict)
    _stores: dict[str, Store] = field(default_factory=dict)

    def prepare(self, configuration: Configuration, segmenter: Segmenter) -> Measured:
        """Put a configuration and a segmenter of its source together.

        Two configurations that come to the same options share their results.

        Raises:
            OptionError: if an option is wrong.
        """
        options = segmenter.options.updated({**self.settings, **configuration.changes})
        key = configuration_key(self._description(segmenter, options))
        if key not in self._stores:
            self._stores[key] = Store(self.folder / f"{key}.jsonl" if self.folder else None)
        return Measured(configuration, segmenter, options, self._stores[key], key)

    def _description(self, segmenter: Segmenter, options: SegmenterOptions) -> dict[str, Any]:
        """Return all that results depend on, but for the photograph."""
        bundle = segmenter.bundle
        return {
            "graphs": {graph.path.name: graph.sha256 for graph in bundle.all_graphs},
            "sizes": [bundle.image_size, bundle.stability_offset, bundle.similarity_channels],
            "engine": described_engine(segmenter, self.threads),
            "source": segmenter.prompt_source,
            "options": options.flat(),
            "boxes": self.boxes.digest if self.boxes and segmenter.needs_boxes else "",
            "coco": self.with_coco,
        }

    def run(
        self, datasets: Sequence[InstanceDataset], limit: int, measured: Sequence[Measured]
    ) -> None:
        """Measure every configuration on every photograph that is not in its store yet.

        Args:
            datasets: whose names are all different.
            limit: most images of each; 0 for all.
            measured: the configurations.

        Raises:
            DatasetError: if no image counts, or one cannot be read.
            InputError: if a photograph has no entry in the file of boxes.
            InferenceError: if a graph fails.
        """
        chosen = choose(datasets, limit)
        total = len(chosen) * len(measured)
        with tqdm(total=total, unit="run", desc="evaluate", file=sys.stderr) as bar:
            for dataset, index in chosen:
                photograph = read(dataset, index)
                if photograph is not None:
                    self._note(photograph)
                    for one in measured:
                        self._measure(one, photograph)
                        bar.update()
                else:
                    bar.update(len(measured))
        if not self.by_set:
            raise DatasetError("no image has an instance of at least 0.1 % of its area")

    def rows(self, one: Measured) -> dict[str, Row]:
        """Return a row for each data set, and one over all photographs."""
        keys = dict(self.by_set)
        keys[ALL] = [key for names in self.by_set.values() for key in names]
        return {name: self._row(one, some) for name, some in keys.items()}

    def results(self, one: Measured) -> Iterator[tuple[str, Stored]]:
        """List each photograph's key and results, in the order of the data."""
        for keys in self.by_set.values():
            for key in keys:
                stored = one.store.get(key)
                if stored is not None:
                    yield key, stored

    def boxes_of(self, one: Measured, photograph: Photograph) -> Boxes | None:
        """Return a photograph's boxes, if the configuration's source needs them.

        Raises:
            InputError: if the file of boxes has no entry for it.
        """
        if not one.segmenter.needs_boxes or self.boxes is None:
            return None
        return self.boxes.find(photograph.image.name, [photograph.dataset.name])

    def _note(self, photograph: Photograph) -> None:
        key, image = photograph.key, photograph.image
        self.by_set.setdefault(photograph.dataset.name, []).append(key)
        self.places[key] = photograph.dataset, photograph.index
        if self.with_coco:
            height, width = image.rgb.shape[:2]
            self._truth[key] = height, width, tuple(compress(mask) for mask in photograph.truth)

    def _measure(self, one: Measured, photograph: Photograph) -> None:
        if one.store.get(photograph.key) is not None:
            return
        boxes = self.boxes_of(one, photograph)
        for _ in range(1 if one.warm else 2):  # the first run only warms up
            segmentation = one.segmenter.segment(photograph.image.rgb, one.options, boxes)
        one.warm = True
        found, scores = found_masks(segmentation) if self.with_coco else ((), ())
        result = measure(segmentation, photograph.truth)
        one.store.put(photograph.key, Stored(result, found, scores))

    def _row(self, one: Measured, keys: Sequence[str]) -> Row:
        stored = [one.store.get(key) for key in keys]
        results = [s.result for s in stored if s is not None]
        coco = self._coco(one, keys) if self.with_coco else None
        return summarize(results, self.detector_ms if one.segmenter.needs_boxes else 0.0, coco)

    def _coco(self, one: Measured, keys: Sequence[str]) -> tuple[float, float]:
        images = []
        for key in keys:
            stored = one.store.get(key)
            if stored is not None:
                images.append(CocoImage(*self._truth[key], stored.found, stored.scores))
        return coco_metrics(images)


def described_engine(segmenter: Segmenter, threads: int) -> str:
    """Say what runs the model, and how."""
    count = f"{threads} threads" if threads else "threads by its own choice"
    return f"{segmenter.engine} on {segmenter.device}, {segmenter.precision}, {count}"
