"""Options, checked against the one table of them: single values, and all that a frame takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar

from aopsam_ros.errors import OptionError, quoted
from aopsam_ros.option_table import OPTIONS, Value


def check(name: str, value: object) -> Value:
    """Return `value` as the option's type, or say why it cannot be.

    Raises:
        OptionError: if the name is unknown, or the value of a wrong type or out of range.
    """
    spec = OPTIONS.get(name)
    if spec is None:
        group = name.partition(".")[0]
        near = [n for n in OPTIONS if n.startswith(f"{group}.")]
        raise OptionError(f"unknown option '{name}'; known: {', '.join(near or OPTIONS)}")
    if spec.value_type is str:
        if not isinstance(value, str) or value not in spec.choices:
            choices = ", ".join(spec.choices)
            raise OptionError(f"{name} must be one of {choices}, not {quoted(str(value))}")
        return value
    # A parameter of type bool is an int to Python, but never meant as one.
    if isinstance(value, (bool, str)) or not hasattr(value, "__float__"):
        raise OptionError(f"{name} must be a number, not {value!r}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise OptionError(f"{name} must be finite, not {value!r}")
    if spec.value_type is int and not number.is_integer():
        raise OptionError(f"{name} must be a whole number, not {value!r}")
    low, high = spec.minimum, spec.maximum
    if low is not None and high is not None and not low <= number <= high:
        raise OptionError(f"{name} must be between {low:.10g} and {high:.10g}, not {value!r}")
    return int(number) if spec.value_type is int else number


def parse(name: str, text: str) -> Value:
    """Read an option written as text, as on a command line.

    Raises:
        OptionError: as `check`.
    """
    spec = OPTIONS.get(name)
    if spec is None or spec.value_type is str:
        return check(name, text)
    try:
        number = float(text)
    except ValueError:
        raise OptionError(f"{name} must be a number, not {text!r}") from None
    return check(name, number)


def _default(name: str) -> Any:  # noqa: ANN401  (the dataclass field gives the type)
    return OPTIONS[name].default


class _Group:
    """A group of options, whose fields are checked against the table."""

    group: ClassVar[str]

    def __post_init__(self) -> None:
        for key, value in vars(self).items():
            object.__setattr__(self, key, check(f"{self.group}.{key}", value))


@dataclass(frozen=True)
class EncoderOptions(_Group):
    """How an image is encoded; each field is the option `encoder.<field>`."""

    group = "encoder"
    padding: str = _default("encoder.padding")


@dataclass(frozen=True)
class AsfOptions(_Group):
    """Adaptive sampling and filtering of prompts; each field is the option `asf.<field>`."""

    group = "asf"
    smoothing_sigma: float = _default("asf.smoothing_sigma")
    confidence_threshold: float = _default("asf.confidence_threshold")
    min_spacing: int = _default("asf.min_spacing")
    sampling: str = _default("asf.sampling")
    prompts: str = _default("asf.prompts")
    extent_overlap: float = _default("asf.extent_overlap")
    prompt_form: str = _default("asf.prompt_form")
    elimination_threshold: float = _default("asf.elimination_threshold")
    elimination_cosine: float = _default("asf.elimination_cosine")
    elimination_iou: float = _default("asf.elimination_iou")
    filtering: str = _default("asf.filtering")
    batch_size: int = _default("asf.batch_size")
    max_prompts: int = _default("asf.max_prompts")
    time_budget_ms: int = _default("asf.time_budget_ms")


@dataclass(frozen=True)
class MaskOptions(_Group):
    """Which masks are kept; each field is the option `mask.<field>`."""

    group = "mask"
    predicted_iou_threshold: float = _default("mask.predicted_iou_threshold")
    stability_threshold: float = _default("mask.stability_threshold")
    overlap_threshold: float = _default("mask.overlap_threshold")
    score_threshold: float = _default("mask.score_threshold")
    min_area: int = _default("mask.min_area")
    min_hole_area: int = _default("mask.min_hole_area")
    min_island_area: int = _default("mask.min_island_area")
    granularity: str = _default("mask.granularity")
    candidates: str = _default("mask.candidates")
    combine: str = _default("mask.combine")
    refine: int = _default("mask.refine")


@dataclass(frozen=True)
class ClusterOptions(_Group):
    """Prompts from clusters of features; each field is the option `clusters.<field>`."""

    group = "clusters"
    preset: str = _default("clusters.preset")
    min_samples: int = _default("clusters.min_samples")
    min_cluster_size: int = _default("clusters.min_cluster_size")
    side: int = _default("clusters.side")


@dataclass(frozen=True)
class BoxOptions(_Group):
    """Prompts from a detector's boxes; each field is the option `boxes.<field>`."""

    group = "boxes"
    refine: int = _default("boxes.refine")


@dataclass(frozen=True)
class GridOptions(_Group):
    """Prompts from a grid; each field is the option `grid.<field>`."""

    group = "grid"
    crop_layers: int = _default("grid.crop_layers")


@dataclass(frozen=True)
class SegmenterOptions:
    """All options of a segmentation; immutable, so a whole set can be swapped at once."""

    asf: AsfOptions = field(default_factory=AsfOptions)
    mask: MaskOptions = field(default_factory=MaskOptions)
    clusters: ClusterOptions = field(default_factory=ClusterOptions)
    boxes: BoxOptions = field(default_factory=BoxOptions)
    grid: GridOptions = field(default_factory=GridOptions)
    encoder: EncoderOptions = field(default_factory=EncoderOptions)

    def flat(self) -> dict[str, Value]:
        """Return `{"asf.smoothing_sigma": 2.0, ...}`, in the table's order."""
        groups = asdict(self)
        return {name: groups[name.split(".")[0]][name.split(".")[1]] for name in OPTIONS}

    def updated(self, values: Mapping[str, object]) -> SegmenterOptions:
        """Return a copy with some options changed, named as in the table.

        Raises:
            OptionError: as `check`; nothing is changed then.
        """
        changes: dict[str, dict[str, Any]] = {}
        for name, value in values.items():
            group, _, key = name.partition(".")
            changes.setdefault(group, {})[key] = check(name, value)
        groups = {name: replace(getattr(self, name), **keys) for name, keys in changes.items()}
        return replace(self, **groups)


def name_in_group(group: str, key: str) -> str:
    """Name the option that `key` stands for in a bundle's group of defaults.

    A group called after a prompt source (grid, boxes, clusters, ...) holds that source's own
    options, `group.key`, and what it takes in place of `mask.key`.
    """
    own = f"{group}.{key}"
    return own if own in OPTIONS or group in ("asf", "mask") else f"mask.{key}"
