"""Everything an evaluation found, as files for programs: results.json and results.csv."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from aopsam_ros.evaluation.configurations import Configuration
from aopsam_ros.evaluation.memory_probe import MemoryFigures
from aopsam_ros.evaluation.summary import Row
from aopsam_ros.options import Value


@dataclass(frozen=True)
class Outcome:
    """A configuration, all of its options, its rows by data set, and its memory."""

    configuration: Configuration
    options: Mapping[str, Value]
    rows: Mapping[str, Row]
    memory: MemoryFigures | None = None


@dataclass(frozen=True)
class Evaluation:
    """The outcomes, and what they hold for.

    `about` says which model, engine and machine; `data` counts the photographs of each set.
    """

    about: Mapping[str, str]
    data: Mapping[str, int]
    outcomes: Sequence[Outcome]

    def part(self, name: str) -> list[Outcome]:
        """Return the outcomes of one part; see `configurations.PARTS`."""
        return [outcome for outcome in self.outcomes if outcome.configuration.part == name]

    def to_json(self) -> str:
        """Return all figures."""
        content: dict[str, Any] = {"about": dict(self.about), "data": dict(self.data)}
        content["configurations"] = [_described(outcome) for outcome in self.outcomes]
        return json.dumps(content, indent=1, allow_nan=False) + "\n"

    def to_csv(self) -> str:
        """Return one line for each configuration and data set."""
        text = io.StringIO()
        names = [field.name for field in fields(Row)]
        memory = [field.name for field in fields(MemoryFigures)]
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["part", "configuration", "source", "data", *names, *memory])
        for outcome in self.outcomes:
            what = outcome.configuration
            own = [getattr(outcome.memory, name, "") for name in memory]
            for data, row in outcome.rows.items():
                figures = [getattr(row, name) for name in names]
                writer.writerow([what.part, what.title, what.source, data, *figures, *own])
        return text.getvalue()


def _described(outcome: Outcome) -> dict[str, Any]:
    what = outcome.configuration
    return {
        "part": what.part,
        "configuration": what.title,
        "source": what.source,
        "options": dict(outcome.options),
        "memory": asdict(outcome.memory) if outcome.memory else None,
        "rows": {name: asdict(row) for name, row in outcome.rows.items()},
    }


def describe_machine() -> str:
    """Name the processor and how many cores this process may use."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{names[0] if names else platform.machine()}, {cores} cores"
