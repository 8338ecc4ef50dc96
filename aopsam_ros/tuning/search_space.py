"""Which options are searched, and over what values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aopsam_ros.options import OPTIONS, Value
from aopsam_ros.prompting.filtering import RULE_OPTIONS

# Wider than what suits any model met so far, and in steps that matter.
NUMBERS: Mapping[str, tuple[float, float, float]] = {  # lowest, highest, step
    "asf.smoothing_sigma": (0.0, 4.0, 0.5),
    "asf.confidence_threshold": (0.02, 0.6, 0.02),
    "asf.min_spacing": (2, 16, 1),
    "asf.extent_overlap": (0.3, 1.0, 0.1),
    "asf.elimination_threshold": (0.5, 2.0, 0.05),
    "asf.elimination_cosine": (0.4, 0.95, 0.05),
    "asf.elimination_iou": (0.0, 0.9, 0.1),
    "mask.predicted_iou_threshold": (0.0, 0.95, 0.05),
    "mask.score_threshold": (0.0, 0.7, 0.05),
    "mask.stability_threshold": (0.0, 0.95, 0.05),
    "mask.overlap_threshold": (0.4, 0.95, 0.05),
}
WORDS: Mapping[str, Sequence[str]] = {
    "asf.sampling": OPTIONS["asf.sampling"].choices,
    "asf.prompts": OPTIONS["asf.prompts"].choices,
    "asf.prompt_form": OPTIONS["asf.prompt_form"].choices,
    "asf.filtering": OPTIONS["asf.filtering"].choices,
    "mask.candidates": OPTIONS["mask.candidates"].choices,
    "mask.combine": ("nms", "box_nms"),  # merged masks are not cached
}
OF_EXTENTS = ("asf.prompts", "asf.prompt_form", "asf.extent_overlap")
MOST_PROMPTS = (8, 16, 32, 64, 128, 256, 512)


@dataclass(frozen=True)
class SearchSpace:
    """The options to search."""

    adaptive: bool  # whether the prompt source takes the options of asf
    fixed: frozenset[str]  # names that the user has set and that are not searched
    max_calls: float | None  # most prompts decoded for a photograph on average; None for any number
    has_extents: bool = True  # whether prompts can have a box that the predictor expects

    def suggest(self, trial: Any) -> dict[str, Value]:  # noqa: ANN401  (optuna is optional)
        """Ask optuna's trial for a value of every option that matters with the ones before it."""
        values: dict[str, Value] = {}
        for name in self._names():
            if name not in self.fixed and not _needless(name, values):
                values[name] = self._value(trial, name)
        return values

    def near(self, options: Mapping[str, Value]) -> dict[str, Value]:
        """Return the searched values that lie nearest to given ones."""
        return {name: self._nearest(name, options[name]) for name in self._names()}

    def _nearest(self, name: str, value: Value) -> Value:
        if name in WORDS:
            return value if value in WORDS[name] else WORDS[name][0]
        if name == "asf.max_prompts":
            return min(self._most_prompts(), key=lambda most: abs(most - float(value)))
        low, high, step = NUMBERS[name]
        inside = min(max(float(value), low), high)
        return OPTIONS[name].value_type(round(low + round((inside - low) / step) * step, 6))

    def _names(self) -> list[str]:
        # The rule first: it decides which of its parameters matter.
        names = ["asf.filtering", "asf.max_prompts", "asf.prompts"]
        names += [n for n in OPTIONS if (n in NUMBERS or n in WORDS) and n not in names]
        if not self.adaptive:
            return [name for name in names if name.startswith("mask.")]
        return names if self.has_extents else [name for name in names if name not in OF_EXTENTS]

    def _value(self, trial: Any, name: str) -> Value:  # noqa: ANN401
        if name in WORDS:
            return str(trial.suggest_categorical(name, list(WORDS[name])))
        if name == "asf.max_prompts":
            return int(trial.suggest_categorical(name, self._most_prompts()))
        low, high, step = NUMBERS[name]
        if OPTIONS[name].value_type is int:
            return int(trial.suggest_int(name, int(low), int(high)))
        return round(trial.suggest_float(name, low, high, step=step), 6)

    def _most_prompts(self) -> list[int]:
        """Return limits of a frame; the budget itself is one, so that some trial can keep it."""
        limit = OPTIONS["asf.max_prompts"].maximum or max(MOST_PROMPTS)
        own = [] if self.max_calls is None else [min(int(self.max_calls), int(limit))]
        return sorted({*MOST_PROMPTS, *own})


def _needless(name: str, values: Mapping[str, Value]) -> bool:
    """Return whether an option changes nothing with the rule that was chosen."""
    if values.get("asf.prompts") == "points" and name in OF_EXTENTS[1:]:
        return True
    if "asf.filtering" not in values:  # the user's own, or none at all
        return False
    return name in RULE_OPTIONS and values["asf.filtering"] not in RULE_OPTIONS[name]
