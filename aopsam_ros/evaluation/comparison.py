"""A whole evaluation: load the model once, measure, and leave the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from aopsam_ros.data.datasets import InstanceDataset
from aopsam_ros.engines.base import Engine
from aopsam_ros.evaluation.configurations import PREDICTOR, configurations
from aopsam_ros.evaluation.harness import Harness, Measured, described_engine
from aopsam_ros.evaluation.memory_probe import MemoryFigures
from aopsam_ros.evaluation.memory_store import MemoryStore
from aopsam_ros.evaluation.model_choice import ModelChoice
from aopsam_ros.evaluation.plots import require_matplotlib
from aopsam_ros.evaluation.results import Evaluation, Outcome, describe_machine
from aopsam_ros.images.files import write_bytes
from aopsam_ros.options import SegmenterOptions
from aopsam_ros.prompting.box_file import BoxFile
from aopsam_ros.prompting.choosing import AUTO
from aopsam_ros.segmentation.segmenter import Segmenter

RESULTS = "images"  # the folder of results by photograph
MEMORY_IMAGES = 3  # photographs on which memory is measured


@dataclass
class Comparison:
    """Prompt sources side by side, on one loaded model.

    Args:
        choice: the model and its engine.
        datasets: whose names are all different.
        limit: most images of each; 0 for all.
        sources: names of prompt sources; "auto" is resolved.
        parts: of the report, see `configurations.PARTS`.
        settings: options for every configuration.
        boxes: for the sources that need them.
        detector_ms: what those boxes had cost for each photograph.
        out: folder of the report; None measures for the console only.
    """

    choice: ModelChoice
    datasets: Sequence[InstanceDataset]
    limit: int
    sources: Sequence[str]
    parts: Sequence[str]
    settings: Mapping[str, object]
    boxes: BoxFile | None
    detector_ms: float
    out: Path | None
    _runtime: Engine | None = None
    _segmenters: dict[str, Segmenter] = field(default_factory=dict)
    _measured: list[Measured] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Refuse early what would fail late, and make the folders.

        Raises:
            AopsamError: if a source, a part, an option or the model is wrong, or a package missing.
        """
        if self.out is not None:
            require_matplotlib()
            (self.out / RESULTS).mkdir(parents=True, exist_ok=True)
        named = [source for source in self.sources if source != AUTO]
        configurations(named, self.parts, SegmenterOptions().updated(self.settings))
        bundle, self._runtime = self.choice.load()
        segmenters = [Segmenter(bundle, self._runtime, source) for source in self.sources]
        self._segmenters = {segmenter.prompt_source: segmenter for segmenter in segmenters}
        self._harness = Harness(
            folder=self.out / RESULTS if self.out else None,
            settings=self.settings,
            boxes=self.boxes,
            detector_ms=self.detector_ms,
            with_coco=self.out is not None,
            threads=self.choice.threads,
        )

    def __enter__(self) -> Comparison:
        """Return itself; the model is freed at the end of the `with` block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Free the model."""
        if self._runtime is not None:
            self._runtime.close()

    def run(self) -> Evaluation:
        """Measure everything that is not measured yet.

        Raises:
            AopsamError: if no image counts, a picture cannot be read or a graph fails.
        """
        harness, first = self._harness, next(iter(self._segmenters.values()))
        own = self._segmenters.get(PREDICTOR, first).options.updated(self.settings)
        self._measured = [
            harness.prepare(one, self._segmenters[one.source])
            for one in configurations(list(self._segmenters), self.parts, own)
        ]
        harness.run(self.datasets, self.limit, self._measured)
        memory = self._memory()
        outcomes = [
            Outcome(one.configuration, one.options.flat(), harness.rows(one), memory.get(one.key))
            for one in self._measured
        ]
        data = {name: len(keys) for name, keys in harness.by_set.items()}
        return Evaluation(self._about(first), data, outcomes)

    def write_report(self, evaluation: Evaluation) -> None:
        """Write results.json, results.csv, report.md, report.html and its pictures.

        Raises:
            OSError: if a file cannot be written.
        """
        from aopsam_ros.evaluation.pictures import draw_examples
        from aopsam_ros.evaluation.report import to_html, to_markdown

        if self.out is None:
            return
        sources = [one for one in self._measured if one.configuration.part == "sources"]
        examples = draw_examples(self._harness, sources, self.out)
        files = {
            "results.json": evaluation.to_json(),
            "results.csv": evaluation.to_csv(),
            "report.md": to_markdown(evaluation),
            "report.html": to_html(evaluation, examples),
        }
        for name, text in files.items():
            write_bytes(self.out / name, text.encode())

    def _about(self, segmenter: Segmenter) -> dict[str, str]:
        bundle = segmenter.bundle
        about = {
            "model": f"{bundle.name} {bundle.version}",
            "engine": described_engine(segmenter, self.choice.threads),
            "machine": describe_machine(),
        }
        if self.boxes is not None:
            taken = f"{self.detector_ms:g} ms a photograph" if self.detector_ms else "not counted"
            about["detector's time"] = taken
        return about

    def _memory(self) -> dict[str, MemoryFigures]:
        """Measure each configuration in a process of its own, once."""
        if self.out is None:
            return {}
        store = MemoryStore(self.out / "memory.json")
        places = list(self._harness.places.values())
        chosen = [places[i * len(places) // MEMORY_IMAGES] for i in range(MEMORY_IMAGES)]
        images = [[str(dataset.path), index] for dataset, index in chosen]
        return store.measure({one.key: self._request(one, images) for one in self._measured})

    def _request(self, one: Measured, images: list[list[Any]]) -> dict[str, Any]:
        return {
            "choice": asdict(self.choice),
            "source": one.segmenter.prompt_source,
            "options": one.options.flat(),
            "boxes": str(self.boxes.path) if self.boxes else None,
            "images": images,
        }
