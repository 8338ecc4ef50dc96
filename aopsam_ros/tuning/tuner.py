"""A whole tuning: encode the photographs, search, check the winner on others."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from aopsam_ros.bundle.loading import BUNDLE_FILE
from aopsam_ros.data.datasets import least_fraction, split_by_group
from aopsam_ros.data.labelled_images import InstanceDataset
from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.errors import DatasetError, InputError, OptionError
from aopsam_ros.evaluation.images import NO_IMAGE, EvaluationImage, read_image, spread
from aopsam_ros.evaluation.measurement import release
from aopsam_ros.evaluation.metrics import iou_matrix
from aopsam_ros.evaluation.panoptic import mostly_unlabelled
from aopsam_ros.images.files import write_bytes
from aopsam_ros.masks.iou import crop_of
from aopsam_ros.options import SegmenterOptions, Value
from aopsam_ros.prompting.box_file import BoxFile
from aopsam_ros.prompting.boxes import Boxes
from aopsam_ros.segmentation.segmenter import Segmenter
from aopsam_ros.tuning.replay import CachedPhotograph, Replay
from aopsam_ros.tuning.score import (
    TIMED,
    Budget,
    Score,
    Timed,
    TimeModel,
    mean,
    measure_times,
    median_time,
)
from aopsam_ros.tuning.search_space import SearchSpace
from aopsam_ros.tuning.study import Study, Tried


@dataclass(frozen=True)
class Task:
    """What to tune, on what, and within which limits.

    `settings` are options that are not searched; `metric` is a name of `score.METRICS`.
    """

    model: str  # a bundle's name or folder
    engine: EngineOptions
    prompt_source: str
    datasets: Sequence[InstanceDataset]  # whose names are all different
    limit: int  # most photographs of each to search on; 0: all
    held_out: float  # share of each data set that only checks the result
    settings: Mapping[str, object]
    boxes: BoxFile | None
    budget: Budget
    metric: str
    trials: int  # in all, those of earlier runs included
    seed: int
    out: Path  # folder for all files


@dataclass(frozen=True)
class Side:
    """One set of options: on the photographs of the search, and on others (None: there are none).

    `milliseconds` is the median of some photographs, measured.
    """

    searched: Score
    checked: Score | None
    milliseconds: float


@dataclass(frozen=True)
class Tuned:
    """The outcome: the options found, and the model's own beside them.

    `options` holds what the search chose, and is empty where the model's own were the best.
    """

    model: str
    prompt_source: str
    options: Mapping[str, Value]
    found: Side
    own: Side
    photographs: int
    others: int


def tune(task: Task) -> Tuned:
    """Search options, and check what was found on photographs that the search did not see.

    Raises:
        AopsamError: if the model, the prompt source or an option is wrong, no photograph counts,
            nothing keeps the budget, or a graph fails.
    """
    with Segmenter.from_bundle(task.model, task.prompt_source, task.engine) as segmenter:
        return _Tuner(task, segmenter).run()


class _Tuner:
    """Searches options; see `Task`."""

    def __init__(self, task: Task, segmenter: Segmenter) -> None:
        self._task, self._segmenter = task, segmenter
        # The segmenter's as well: images are encoded by them, too.
        self._own = segmenter.options = segmenter.options.updated(task.settings)
        cropped = segmenter.crop_layers(self._own) > 0
        if self._own.mask.combine == "merge" or self._own.mask.granularity != "all" or cropped:
            raise OptionError(
                "merged masks, masks of one granularity and crops cannot be tuned: --set "
                "mask.combine=nms mask.granularity=all grid.crop_layers=0"
            )
        self._replay = Replay(segmenter, task.datasets)
        # As in training: of a share that is too small for the groups, one is held out all the same.
        share = task.held_out and max(task.held_out, least_fraction(task.datasets))
        self._parts = [_split(dataset, share, task.limit) for dataset in task.datasets]
        if not any(used for used, _ in self._parts):
            reason = "every photograph is held out, none is left to search on"
            raise DatasetError(f"{reason}: give more, or a smaller --held-out")

    def run(self) -> Tuned:
        cached, timed, digest = self._encode()
        budget = self._task.budget
        space = SearchSpace(
            self._segmenter.source.adaptive,
            frozenset(self._task.settings),
            budget.max_calls,
            has_extents=cached[0].frame.extent_map is not None,
        )
        own, most = self._replayed(cached, {}), budget.max_calls
        if most is not None and not space.adaptive and own.prompts_decoded > most:
            raise OptionError(
                f"the prompt source '{self._segmenter.source.name}' decodes "
                f"{own.prompts_decoded:g} prompts, more than --max-calls {most:g}: limit it with "
                "--set asf.max_prompts"
            )
        description = self._description(digest)
        study = Study(self._task.out / "trials.journal", description, self._task.seed)
        time = self._time_model(timed, description)

        def judge(values: Mapping[str, Value]) -> Tried:
            score = self._replayed(cached, values)
            return Tried(values, score, budget.excess(score, time))

        start = space.near(self._own.flat())
        study.run(self._task.trials, space, start, judge, self._task.metric)
        mine = Tried({}, own, budget.excess(own, time))
        best, milliseconds = self._winner([mine, *study.tried()], timed)
        own_ms = median_time(self._segmenter, timed, self._own)
        others, (checked, own_checked) = self._check(best.values, {})
        return Tuned(
            model=self._model(),
            prompt_source=self._segmenter.source.name,
            options=best.values,
            found=Side(best.score, checked, milliseconds),
            own=Side(own, own_checked, own_ms),
            photographs=len(cached),
            others=others,
        )

    def _encode(self) -> tuple[list[CachedPhotograph], list[Timed], str]:
        """Encode the photographs; return them, some to be timed, and a digest."""
        cached: list[CachedPhotograph] = []
        timed: list[Timed] = []
        digest = hashlib.sha256()
        indices = [used for used, _ in self._parts]
        every = max(1, sum(map(len, indices)) // TIMED)
        for number, photograph in self._photographs("encode", indices):
            boxes = self._boxes(photograph)
            cached.append(self._replay.encode(photograph, number, boxes))
            digest.update(photograph.key.encode(errors="surrogateescape") + b"\n")
            if len(cached) % every == 1 or every == 1:
                timed.append((photograph.rgb, boxes))
        if not cached:
            raise DatasetError(NO_IMAGE)
        return cached, timed[:TIMED], digest.hexdigest()

    def _photographs(
        self, word: str, indices: Sequence[Sequence[int]]
    ) -> Iterator[tuple[int, EvaluationImage]]:
        """Read the photographs that count, with their data set's number."""
        places = [(number, index) for number, some in enumerate(indices) for index in some]
        for number, index in tqdm(places, unit="image", desc=word, disable=not places):
            photograph = read_image(self._task.datasets[number], index)
            if photograph is not None:
                yield number, photograph

    def _boxes(self, photograph: EvaluationImage) -> Boxes | None:
        needs_boxes = self._segmenter.source.needs_boxes
        return photograph.find_boxes(self._task.boxes if needs_boxes else None)

    def _replayed(self, cached: Sequence[CachedPhotograph], values: Mapping[str, Value]) -> Score:
        """Return the mean score of the photographs with these options."""
        options = self._own.updated(values)
        return mean([self._replay.run(photograph, options) for photograph in cached])

    def _time_model(
        self, timed: Sequence[Timed], description: Mapping[str, Any]
    ) -> TimeModel | None:
        """Measure, or read what an earlier run of this search measured: it judged its trials."""
        if self._task.budget.time_ms is None:
            return None
        file = self._task.out / "timing.json"
        if file.is_file():
            try:
                content = json.loads(file.read_text())
                if content.pop("description") == description:
                    return TimeModel(**content)
            except (ValueError, TypeError, LookupError, AttributeError):
                raise InputError(f"{file}: no times of a search; choose another --out") from None
        measured = measure_times(self._segmenter, timed, self._own)
        self._replay.forget()
        content = {**asdict(measured), "description": description}
        write_bytes(file, (json.dumps(content) + "\n").encode())
        return measured

    def _description(self, digest: str) -> dict[str, Any]:
        """Return all that scores and their excess depend on, as JSON gives it back."""
        task, engine = self._task, self._segmenter.engine
        return {
            "release": release(),
            "model": self._segmenter.bundle.digest,
            "engine": f"{engine.name} on {engine.device}, {engine.precision}",
            "number of threads": task.engine.threads if task.budget.time_ms is not None else 0,
            "prompt source": self._segmenter.source.name,
            "photographs": digest,
            "boxes": task.boxes.digest if task.boxes else "",
            "options": self._own.flat(),
            "fixed options": sorted(task.settings),
            "budget": asdict(task.budget),
            "metric": task.metric,
            "seed": task.seed,
        }

    def _model(self) -> str:
        """Return the model's name, or its folder as the node finds it from any other one."""
        given, folder = self._task.model, self._segmenter.bundle.folder
        return str(folder.absolute()) if Path(given) in (folder, folder / BUNDLE_FILE) else given

    def _winner(self, tried: Sequence[Tried], timed: Sequence[Timed]) -> tuple[Tried, float]:
        """Return the best of those that keep the budget, measured where that is time."""
        kept = [one for one in tried if one.excess <= 0]
        metric, limit = self._task.metric, self._task.budget.time_ms
        ranked = sorted(kept, key=lambda one: (-one.score.value(metric), one.score.prompts_decoded))
        # Where the estimate was wrong, what decodes as many prompts will not keep the limit either.
        fewest = math.inf
        for one in ranked:
            if one.score.prompts_decoded < fewest:
                options = self._own.updated(one.values)
                milliseconds = median_time(self._segmenter, timed, options)
                if limit is None or milliseconds <= limit:
                    return one, milliseconds
                fewest = one.score.prompts_decoded
        raise OptionError(
            f"no setting keeps the budget of {self._task.budget.describe()}: allow more, or search "
            "longer with more --trials"
        )

    def _check(self, *settings: Mapping[str, Value]) -> tuple[int, list[Score | None]]:
        """Segment photographs that the search did not see, with each setting.

        Returns:
            How many these are, and the mean score of each setting (None: there are none).
        """
        options = [self._own.updated(values) for values in settings]
        held = [held for _, held in self._parts]
        scores = [
            [self._score(photograph, some) for some in options]
            for _, photograph in self._photographs("check", held)
        ]
        means = [mean([row[i] for row in scores]) if scores else None for i in range(len(options))]
        return len(scores), means

    def _score(self, photograph: EvaluationImage, options: SegmenterOptions) -> Score:
        found = self._segmenter.segment(photograph.rgb, options, self._boxes(photograph))
        iou = iou_matrix(found, photograph.ground_truth)
        masks = [crop_of(mask) for mask in found.masks]
        unlabelled = mostly_unlabelled(masks, photograph.ground_truth)
        return Score.of(iou, unlabelled, found.prompts_decoded)


def _split(dataset: InstanceDataset, share: float, limit: int) -> tuple[list[int], list[int]]:
    """Return the indices to search on, and those that only check; groups stay together."""
    used, held = split_by_group(dataset, share)
    return spread(used, limit), spread(held, -(-limit // 3))
