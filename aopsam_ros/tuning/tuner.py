"""A whole tuning: encode the photographs, search, check the winner on others."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tqdm import tqdm

from aopsam_ros.data.datasets import InstanceDataset, split_by_group
from aopsam_ros.errors import DatasetError, OptionError
from aopsam_ros.evaluation.images import EvaluationImage, read_image, spread
from aopsam_ros.evaluation.metrics import closest, iou_matrix, one_to_one
from aopsam_ros.images.files import write_bytes
from aopsam_ros.options import SegmenterOptions, Value
from aopsam_ros.prompting.boxes import Boxes
from aopsam_ros.segmentation.segmenter import Segmenter
from aopsam_ros.tuning.replay import CachedPhotograph, Replay, Replayed
from aopsam_ros.tuning.score import Score, TimeModel, mean, score
from aopsam_ros.tuning.search_space import SearchSpace
from aopsam_ros.tuning.study import Study, Tried
from aopsam_ros.tuning.task import Side, Task, Tuned
from aopsam_ros.tuning.timing import FRAMES, Frame, measure_times, median_time


class Tuner:
    """Searches options; see `Task`. The model must be closed by `close`."""

    def __init__(self, task: Task) -> None:
        """Load the model and refuse what cannot be tuned.

        Raises:
            AopsamError: if the model, the prompt source or an option is wrong.
        """
        self._task = task
        self._segmenter = Segmenter.from_bundle(task.model, task.prompt_source, task.engine)
        source = self._segmenter.source
        self._own = self._segmenter.options.updated(task.settings)
        cropped = source.croppable and self._own.grid.crop_layers
        if self._own.mask.combine == "merge" or cropped:
            self.close()
            raise OptionError(
                "merged masks and crops cannot be tuned: --set mask.combine=nms grid.crop_layers=0"
            )
        self._replay = Replay(self._segmenter, task.datasets)
        self._space = SearchSpace(source.adaptive, frozenset(task.settings), task.budget.max_calls)
        self._parts = [_split(dataset, task) for dataset in task.datasets]

    def close(self) -> None:
        """Free the model."""
        self._segmenter.close()

    def run(self) -> Tuned:
        """Search, and check what was found on photographs that the search did not see.

        Raises:
            AopsamError: if no photograph counts, nothing keeps the budget, or a graph fails.
        """
        cached, frames, digest = self._encode()
        own = score(self._replay, cached, self._own)
        self._refuse_hopeless(own)
        time = self._time_model(frames)
        study = Study(self._task.out / "trials.journal", self._description(digest), self._task.seed)

        def judge(values: Mapping[str, Value]) -> tuple[float, Score, float]:
            found = score(self._replay, cached, self._own.updated(values))
            excess = self._task.budget.excess(found, time)
            return found.value(self._task.metric), found, excess

        study.run(self._task.trials, self._space, self._own.flat(), judge)
        mine = Tried(-1, {}, own, self._task.budget.excess(own, time))
        best, milliseconds = self._winner([mine, *study.tried()], frames)
        others = list(self._photographs("check", [held for _, held in self._parts]))
        own_ms = median_time(self._segmenter, frames, self._own)
        return Tuned(
            model=self._task.model,
            prompt_source=self._segmenter.source.name,
            options=best.values,
            found=Side(best.score, self._check(others, best.values), milliseconds),
            own=Side(own, self._check(others, {}), own_ms),
            photographs=len(cached),
            others=len(others),
        )

    def _encode(self) -> tuple[list[CachedPhotograph], list[Frame], str]:
        """Encode the photographs; return them, some to be timed, and a digest."""
        cached: list[CachedPhotograph] = []
        frames: list[Frame] = []
        digest = hashlib.sha256()
        indices = [used for used, _ in self._parts]
        every = max(1, sum(map(len, indices)) // FRAMES)
        for number, photograph in self._photographs("encode", indices):
            boxes = self._boxes(photograph)
            cached.append(self._replay.encode(photograph, number, boxes))
            digest.update(photograph.key.encode() + b"\n")
            if len(cached) % every == 1 or every == 1:
                frames.append((photograph.rgb, boxes))
        if not cached:
            raise DatasetError("no image has an instance of at least 0.1 % of its area")
        return cached, frames[:FRAMES], digest.hexdigest()

    def _photographs(
        self, word: str, indices: Sequence[Sequence[int]]
    ) -> Iterator[tuple[int, EvaluationImage]]:
        """Read the photographs that count, with their data set's number."""
        places = [(number, index) for number, some in enumerate(indices) for index in some]
        for number, index in tqdm(places, unit="image", desc=word, file=sys.stderr):
            photograph = read_image(self._task.datasets[number], index)
            if photograph is not None:
                yield number, photograph

    def _boxes(self, photograph: EvaluationImage) -> Boxes | None:
        if not self._segmenter.source.needs_boxes or self._task.boxes is None:
            return None
        return self._task.boxes.find(photograph.labelled.name, [photograph.dataset.name])

    def _refuse_hopeless(self, own: Score) -> None:
        most = self._task.budget.max_calls
        if most is not None and not self._space.adaptive and own.prompts_decoded > most:
            raise OptionError(
                f"the prompt source '{self._segmenter.source.name}' always decodes "
                f"{own.prompts_decoded:g} prompts, more than --max-calls {most:g}"
            )

    def _time_model(self, frames: Sequence[Frame]) -> TimeModel | None:
        """Measure, or read what an earlier run measured: its trials were judged by that."""
        if self._task.budget.time_ms is None:
            return None
        file = self._task.out / "timing.json"
        if file.is_file():
            return TimeModel(**json.loads(file.read_text()))
        measured = measure_times(self._segmenter, frames, self._own)
        write_bytes(file, (json.dumps(asdict(measured)) + "\n").encode())
        return measured

    def _description(self, digest: str) -> dict[str, Any]:
        task, bundle = self._task, self._segmenter.bundle
        return {
            "model": {name: graph.sha256 for name, graph in bundle.graphs.items()},
            "prompt source": self._segmenter.source.name,
            "photographs": digest,
            "boxes": task.boxes.digest if task.boxes else "",
            "options": self._own.flat(),
            "fixed options": sorted(task.settings),
            "budget": asdict(task.budget),
            "metric": task.metric,
            "seed": task.seed,
        }

    def _winner(self, tried: Sequence[Tried], frames: Sequence[Frame]) -> tuple[Tried, float]:
        """Return the best of those that keep the budget, measured where that is time."""
        kept = [one for one in tried if one.excess <= 0]
        metric, limit = self._task.metric, self._task.budget.time_ms
        ranked = sorted(kept, key=lambda one: (-one.score.value(metric), one.score.prompts_decoded))
        while ranked:
            one = ranked[0]
            options = self._own.updated(one.values)
            milliseconds = median_time(self._segmenter, frames, options)
            if limit is None or milliseconds <= limit:
                return one, milliseconds
            # The estimate was wrong: what decodes as much will not keep the limit either.
            calls = one.score.prompts_decoded
            ranked = [other for other in ranked if other.score.prompts_decoded < calls]
        raise OptionError(
            f"no setting keeps the budget of {self._task.budget.describe()}: allow more, or search "
            "longer with more --trials"
        )

    def _check(
        self, others: Iterable[tuple[int, EvaluationImage]], values: Mapping[str, Value]
    ) -> Score | None:
        """Run the real pipeline on photographs that the search did not see."""
        options = self._own.updated(values)
        results = [self._really(photograph, options) for _, photograph in others]
        return mean(results) if results else None

    def _really(self, photograph: EvaluationImage, options: SegmenterOptions) -> Replayed:
        found = self._segmenter.segment(photograph.rgb, options, self._boxes(photograph))
        iou = iou_matrix(found, photograph.ground_truth)
        return Replayed(one_to_one(iou), closest(iou), len(found.masks), found.prompts_decoded)


def _split(dataset: InstanceDataset, task: Task) -> tuple[list[int], list[int]]:
    """Return the indices to search on, and those that only check; groups stay together."""
    used, held = split_by_group(dataset, task.held_out)
    return spread(used, task.limit), spread(held, -(-task.limit // 3))
