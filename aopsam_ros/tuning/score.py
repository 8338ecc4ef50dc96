"""How good a set of options is on photographs, and what it may cost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from aopsam_ros.errors import OptionError
from aopsam_ros.evaluation.metrics import closest, one_to_one
from aopsam_ros.evaluation.panoptic import count_panoptic, panoptic_quality
from aopsam_ros.options import SegmenterOptions
from aopsam_ros.prompting.boxes import Boxes
from aopsam_ros.results import Segmentation
from aopsam_ros.segmentation.segmenter import Segmenter

METRICS = ("pq", "one_to_one", "closest", "both")
TIMED = 4  # photographs
_PROMPTS = (2, 16, 64)  # of a timed run: few, some and many

Timed = tuple[NDArray[np.uint8], Boxes | None]  # an image, and its boxes where they are needed


@dataclass(frozen=True)
class Score:
    """Figures of one photograph, or their means over several; see `evaluation.figures`."""

    one_to_one: float
    closest: float
    masks: float
    prompts_decoded: float
    matched: float
    matched_iou: float
    false_positives: float
    missed: float

    @classmethod
    def of(
        cls, iou: NDArray[np.float64], unlabelled: NDArray[np.bool_], prompts_decoded: int
    ) -> Score:
        """Return the figures of a photograph, of the IoU `[masks, ground truth]`.

        `unlabelled`, bool `[masks]`, are those that lie mostly on unlabelled pixels.
        """
        counts = count_panoptic(iou, unlabelled)
        return cls(one_to_one(iou), closest(iou), len(iou), prompts_decoded, **counts)

    @property
    def pq(self) -> float:
        """Panoptic quality; of means over photographs that of all of them together."""
        counts = self.matched, self.matched_iou, self.false_positives, self.missed
        return panoptic_quality(*counts)["pq"]

    def value(self, metric: str) -> float:
        """Return what is searched for: a name of `METRICS`; "both" is the mean of the two mIoU."""
        if metric == "both":
            return (self.one_to_one + self.closest) / 2
        return float(getattr(self, metric))


def mean(scores: Sequence[Score]) -> Score:
    """Average over photographs, each counting once."""
    return Score(*np.mean([astuple(score) for score in scores], axis=0).tolist())


@dataclass(frozen=True)
class TimeModel:
    """Milliseconds of a photograph: a constant, so much a decoded prompt, so much a mask."""

    base: float
    per_prompt: float
    per_mask: float

    def estimate(self, prompts: float, masks: float) -> float:
        """Return the time that so many decoded prompts and masks take."""
        return self.base + self.per_prompt * prompts + self.per_mask * masks

    @classmethod
    def fit(cls, runs: Sequence[tuple[float, float, float]]) -> TimeModel:
        """Fit to runs of (prompts, masks, milliseconds); no part is negative."""
        rows = np.array(runs, np.float64)
        factors: NDArray[np.float64] = np.column_stack((np.ones(len(rows)), rows[:, :2]))
        base, per_prompt, per_mask = nnls(factors, rows[:, 2])[0].tolist()
        return cls(base, per_prompt, per_mask)


def measure_times(
    segmenter: Segmenter, photographs: Sequence[Timed], options: SegmenterOptions
) -> TimeModel:
    """Time some photographs with different numbers of prompts; all else is as in `options`."""
    runs = []
    for most in _PROMPTS:
        limited = options.updated({"asf.max_prompts": most, "asf.time_budget_ms": 0})
        for found in _warm_runs(segmenter, photographs, limited):
            runs.append((found.prompts_decoded, len(found.masks), found.timings_ms["total"]))
    return TimeModel.fit(runs)


def median_time(
    segmenter: Segmenter, photographs: Sequence[Timed], options: SegmenterOptions
) -> float:
    """Return the median milliseconds of photographs."""
    runs = _warm_runs(segmenter, photographs, options)
    return float(np.median([found.timings_ms["total"] for found in runs]))


def _warm_runs(
    segmenter: Segmenter, photographs: Sequence[Timed], options: SegmenterOptions
) -> Iterator[Segmentation]:
    """Segment each photograph twice: the first run only warms up."""
    for rgb, boxes in photographs:
        segmenter.segment(rgb, options, boxes)
        yield segmenter.segment(rgb, options, boxes)


@dataclass(frozen=True)
class Budget:
    """What a photograph may cost on average: decoded prompts, or milliseconds; None: anything.

    Raises:
        OptionError: if a limit is not positive and finite.
    """

    max_calls: float | None = None
    time_ms: float | None = None

    def __post_init__(self) -> None:
        if self.max_calls is not None and not 1 <= self.max_calls < math.inf:
            raise OptionError("--max-calls must be 1 or more, and finite")
        if self.time_ms is not None and not 0 < self.time_ms < math.inf:
            raise OptionError("--time-ms must be above 0, and finite")

    def excess(self, score: Score, time: TimeModel | None) -> float:
        """Return by what share the budget is exceeded; 0 or less where it is kept."""
        needs = [(self.max_calls, score.prompts_decoded)]
        if time is not None:
            needs.append((self.time_ms, time.estimate(score.prompts_decoded, score.masks)))
        return max((need / limit - 1.0 for limit, need in needs if limit is not None), default=-1.0)

    def describe(self) -> str:
        """Say what the limits are."""
        limits = {"at most %g prompts decoded": self.max_calls, "at most %g ms": self.time_ms}
        words = [text % limit for text, limit in limits.items() if limit is not None]
        return " and ".join(words) or "no limit"
