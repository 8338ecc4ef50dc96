"""What a tuning is asked for, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aopsam_ros.data.datasets import InstanceDataset
from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.options import Value
from aopsam_ros.prompting.box_file import BoxFile
from aopsam_ros.tuning.score import Budget, Score


@dataclass(frozen=True)
class Task:
    """What to tune, on what, and within which limits.

    Attributes:
        model: a bundle's name or folder.
        engine: that runs it.
        prompt_source: a source's name.
        datasets: whose names are all different.
        limit: most photographs of each to search on; 0 for all.
        held_out: share of each data set that only checks the result.
        settings: options that are not searched.
        boxes: for the sources that need them.
        budget: what a photograph may cost.
        metric: what is searched for, a name of `score.METRICS`.
        trials: how many, those of earlier runs included.
        seed: of the suggestions.
        out: folder for all files.
    """

    model: str
    engine: EngineOptions
    prompt_source: str
    datasets: Sequence[InstanceDataset]
    limit: int
    held_out: float
    settings: Mapping[str, object]
    boxes: BoxFile | None
    budget: Budget
    metric: str
    trials: int
    seed: int
    out: Path


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
