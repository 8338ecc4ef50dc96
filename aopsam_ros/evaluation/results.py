"""Everything an evaluation found, as files for programs: results.json and results.csv."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aopsam_ros.evaluation.configurations import Configuration
from aopsam_ros.evaluation.figures import Figures
from aopsam_ros.options import Value

ALL = "all"  # the figures over the images of all data sets


@dataclass(frozen=True)
class Outcome:
    """A configuration, all of its options, its figures by data set, and its peak memory in MiB."""

    configuration: Configuration
    options: Mapping[str, Value]
    figures: Mapping[str, Figures]
    peak_mb: float | None = None

    def names(self) -> dict[str, str]:
        """Return what the configuration is called in the files."""
        one = self.configuration
        return {"part": one.part, "configuration": one.title, "source": one.source}


@dataclass(frozen=True)
class Evaluation:
    """The outcomes, and what they hold for.

    `about` says which model, engine and machine; `data` counts the images of each set.
    """

    about: Mapping[str, str]
    data: Mapping[str, int]
    outcomes: Sequence[Outcome]

    def part(self, name: str) -> list[Outcome]:
        """Return the outcomes of one part; see `configurations.PARTS`."""
        return [outcome for outcome in self.outcomes if outcome.configuration.part == name]

    def to_json(self) -> str:
        """Return all figures."""
        rows = [
            {**one.names(), "options": one.options, "peak_mb": one.peak_mb, "figures": one.figures}
            for one in self.outcomes
        ]
        content = {"about": self.about, "data": self.data, "configurations": rows}
        return json.dumps(content, indent=1, allow_nan=False) + "\n"

    def to_csv(self) -> str:
        """Return one line for each configuration and data set."""
        rows = [
            {**outcome.names(), "data": data, **figures, "peak_mb": outcome.peak_mb}
            for outcome in self.outcomes
            for data, figures in outcome.figures.items()
        ]
        columns = [name for name in rows[0] if name != "reliability"]
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()
