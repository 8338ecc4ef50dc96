"""A whole evaluation: load the model once, measure all configurations, and write the report.

Images are the outer loop: other load on the machine then affects all configurations equally, and an
interrupted run has compared them all on the images it came to.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from aopsam_ros.bundle.loading import load_bundle
from aopsam_ros.data.labelled_images import InstanceDataset
from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.engines.processor import describe_processor
from aopsam_ros.engines.registry import create_engine
from aopsam_ros.errors import DatasetError
from aopsam_ros.evaluation.configurations import PREDICTOR, Configuration, configurations
from aopsam_ros.evaluation.images import NO_IMAGE, EvaluationImage, choose_images, read_image
from aopsam_ros.evaluation.measurement import Measurement, Store, configuration_key
from aopsam_ros.evaluation.memory import in_fresh_process, peak_memory
from aopsam_ros.evaluation.results import ALL, Evaluation, Outcome
from aopsam_ros.options import SegmenterOptions
from aopsam_ros.prompting.box_file import BoxFile
from aopsam_ros.prompting.sources import AUTO
from aopsam_ros.segmentation.segmenter import Segmenter
from aopsam_ros.streaming.camera_motion import CameraMotion

RESULTS = "images"  # the folder of results by image
MEMORY_IMAGES = 3  # images on which memory is measured


@dataclass
class Evaluator:
    """Measures prompt sources and options side by side, on one loaded model.

    After `run`, `places` says where the image of each key was read, and `measurements` has all
    results.

    Raises:
        AopsamError: if a source, a part, an option or the model is wrong.
    """

    model: str  # a bundle's name or folder
    engine: EngineOptions
    datasets: Sequence[InstanceDataset]  # whose names are all different
    limit: int = 0  # images of each at most; 0: all
    sources: Sequence[str] = (AUTO,)
    parts: Sequence[str] = ("sources",)  # of the report, see `configurations.PARTS`
    # of every configuration, over the bundle's own options
    settings: Mapping[str, object] = field(default_factory=dict)
    boxes: BoxFile | None = None  # for the sources that need them
    detector_ms: float = 0.0  # what those boxes had cost for each image
    is_stream: bool = False  # each data set is a stream of frames, whose flicker is measured
    out: Path | None = None  # folder of the report; None: for the console only
    places: dict[str, tuple[InstanceDataset, int]] = field(default_factory=dict, init=False)
    measurements: list[Measurement] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        """Refuse early what would fail late, load the model, and make the folders."""
        named = [source for source in self.sources if source != AUTO]
        configurations(named, self.parts, SegmenterOptions().updated(self.settings))
        bundle = load_bundle(self.model)
        self._engine = engine = create_engine(bundle, self.engine)
        count = self.engine.threads
        threads = f"{count} threads" if count else "threads by its own choice"
        self._about = {
            "model": f"{bundle.name} {bundle.version}",
            "engine": f"{engine.name} on {engine.device}, {engine.precision}, {threads}",
            "machine": describe_processor(),
        }
        if self.boxes is not None:
            taken = f"{self.detector_ms:g} ms an image" if self.detector_ms else "not counted"
            self._about["detector's time"] = taken
        segmenters = [Segmenter(bundle, engine, source) for source in self.sources]
        self._segmenters = {segmenter.source.name: segmenter for segmenter in segmenters}
        self._stores: dict[str, Store] = {}
        if self.out is not None:
            (self.out / RESULTS).mkdir(parents=True, exist_ok=True)

    def close(self) -> None:
        """Free the model."""
        self._engine.close()

    def run(self) -> Evaluation:
        """Measure everything that is not measured yet.

        Raises:
            DatasetError: if no image counts, or one cannot be read.
            InputError: if an image has no entry in the file of boxes.
            InferenceError: if a graph fails.
        """
        first = next(iter(self._segmenters.values()))
        own = self._segmenters.get(PREDICTOR, first).options.updated(self.settings)
        wanted = configurations(list(self._segmenters), self.parts, own)
        self.measurements = [self._prepare(configuration) for configuration in wanted]
        self._measure_images()
        groups: dict[str, list[str]] = {}
        for key, (dataset, _) in self.places.items():
            groups.setdefault(dataset.name, []).append(key)
        data = {name: len(keys) for name, keys in groups.items()}
        groups[ALL] = list(self.places)
        bar = tqdm(self.measurements, unit="row", desc="memory", file=sys.stderr)
        outcomes = [
            Outcome(
                configuration=one.configuration,
                options=one.options.flat(),
                figures=one.means(groups, self.detector_ms),
                peak_mb=self._peak_memory(one),
            )
            for one in bar
        ]
        return Evaluation(self._about, data, outcomes)

    def _prepare(self, configuration: Configuration) -> Measurement:
        segmenter = self._segmenters[configuration.source]
        options = segmenter.options.updated({**self.settings, **configuration.changes})
        file = self.boxes if segmenter.source.needs_boxes else None
        key = configuration_key(  # all that results depend on, but for the image
            {
                "model": segmenter.bundle.digest,
                "engine": self._about["engine"],
                "source": segmenter.source.name,
                "options": options.flat(),
                "boxes": file.digest if file else "",
                "stream": self.is_stream,
            }
        )
        if key not in self._stores:
            path = self.out / RESULTS / f"{key}.jsonl" if self.out else None
            self._stores[key] = Store(path)
        return Measurement(configuration, segmenter, options, self._stores[key], file)

    def _measure_images(self) -> None:
        camera = CameraMotion()
        chosen = list(choose_images(self.datasets, self.limit, consecutive=self.is_stream))
        before: EvaluationImage | None = None
        total = len(chosen) * len(self.measurements)
        with tqdm(total=total, unit="run", desc="evaluate", file=sys.stderr) as bar:
            for dataset, index in chosen:
                image = read_image(dataset, index)
                if image is not None:
                    self.places[image.key] = dataset, index
                    frame = _frame_before(before, image, camera) if self.is_stream else ()
                    for one in self.measurements:
                        one.measure(image, *frame)
                before = image
                bar.update(len(self.measurements))
        if not self.places:
            raise DatasetError(NO_IMAGE)

    def _peak_memory(self, one: Measurement) -> float | None:
        """Measure a configuration in a process of its own, once; MiB."""
        if self.out is None:
            return None
        keys = list(self.places)
        chosen = [keys[i * len(keys) // MEMORY_IMAGES] for i in range(MEMORY_IMAGES)]
        key = f"memory, {', '.join(chosen)}"
        if key not in one.store.results:
            images = [(self.places[each][0].path, self.places[each][1]) for each in chosen]
            boxes = one.boxes.path if one.boxes else None
            source = one.configuration.source
            given = (self.model, self.engine, source, one.options.flat(), images, boxes)
            one.store.put(key, {"peak_mb": in_fresh_process(peak_memory, *given)})
        return float(one.store.results[key]["peak_mb"])


def _frame_before(
    before: EvaluationImage | None, image: EvaluationImage, camera: CameraMotion
) -> tuple[()] | tuple[str, tuple[float, float]]:
    """Return the key of the frame before and the camera's motion since; none for the first."""
    if before is not None:
        expected = before.dataset.name, before.index + 1, before.rgb.shape
        if expected == (image.dataset.name, image.index, image.rgb.shape):
            return before.key, camera.update(image.rgb)
    camera.reset()
    camera.update(image.rgb)
    return ()
