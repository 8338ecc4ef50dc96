"""The one table of options: type, default, range and meaning of each, and the objects they make.

They are written here only: the command line and the node's parameters are made from `OPTIONS`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, ClassVar

from aopsam_ros.errors import OptionError, quoted

Value = float | int | str


@dataclass(frozen=True)
class OptionSpec:
    """Default, meaning, and closed range (numbers) or choices (words) of one option."""

    default: Value
    description: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def value_type(self) -> type:
        """Type of all its values: that of the default."""
        return type(self.default)


def _option(
    default: Value,
    description: str,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:  # noqa: ANN401  (the field says the type)
    """Declare a field of a group with its `OptionSpec`."""
    spec = OptionSpec(default, description, minimum, maximum, choices)
    return field(default=default, metadata={"spec": spec})


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
    padding: str = _option(
        "square",
        "how far the image is padded: to a square, or least, which is faster; engines and"
        " models that need the square pad to it in any case",
        choices=("square", "least"),
    )


@dataclass(frozen=True)
class AsfOptions(_Group):
    """Adaptive sampling and filtering of prompts; each field is the option `asf.<field>`."""

    group = "asf"
    smoothing_sigma: float = _option(
        2.0, "Gaussian smoothing of the prompt confidence map, in its pixels", 0.0, 32.0
    )
    confidence_threshold: float = _option(
        0.2, "a candidate prompt's least confidence after smoothing", 0.0, 1.0
    )
    min_spacing: int = _option(
        6, "least distance between candidate prompts, in confidence map pixels", 1, 256
    )
    sampling: str = _option(
        "peaks",
        "where prompts are sampled: at the map's peaks, or at these and then wherever else it"
        " is above the threshold, at the least distance",
        choices=("peaks", "fill"),
    )
    prompts: str = _option(
        "extents",
        "points, as in the paper, or points with the box that the predictor expects around each,"
        " where the model has extents",
        choices=("points", "extents"),
    )
    extent_overlap: float = _option(
        0.6,
        "IoU of two prompts' boxes above which they mean one object: the surer one is decoded",
        0.0,
        1.0,
    )
    prompt_form: str = _option(
        "point",
        "what is decoded of a prompt with a box: the point, the box, or both",
        choices=("point", "box", "both"),
    )
    elimination_threshold: float = _option(
        1.3,
        "factor k of the elimination threshold of the rules paper, max and max_inside; lower"
        " drops more prompts",
        0.0,
        10.0,
    )
    elimination_cosine: float = _option(
        0.75,
        "cosine of two prompts' features from which the rule duplicates drops one; lower drops"
        " more prompts",
        0.0,
        1.0,
    )
    elimination_iou: float = _option(
        0.0, "least predicted IoU of a mask that may drop remaining prompts", 0.0, 1.0
    )
    filtering: str = _option(
        "duplicates",
        "rule that drops remaining prompts after each batch of masks",
        choices=("paper", "none", "inside", "max", "max_inside", "inside_all", "duplicates"),
    )
    batch_size: int = _option(
        8,
        "prompts decoded in one call of the decoder; it may be more where no prompt is filtered and"
        " no time budget is set",
        1,
        1024,
    )
    max_prompts: int = _option(
        256,
        "most prompts decoded for an image, and for each of its crops; by default all points of a"
        " grid, all boxes and all clusters",
        1,
        4096,
    )
    time_budget_ms: int = _option(
        0,
        "milliseconds for a frame, the best prompts of each part of the image first; 0 = no limit",
        0,
        600_000,
    )


@dataclass(frozen=True)
class MaskOptions(_Group):
    """Which masks are kept; each field is the option `mask.<field>`."""

    group = "mask"
    predicted_iou_threshold: float = _option(
        0.5, "least predicted IoU of a mask that is kept", 0.0, 1.0
    )
    stability_threshold: float = _option(
        0.7, "least stability score of a mask that is kept", 0.0, 1.0
    )
    overlap_threshold: float = _option(
        0.7,
        "a mask whose IoU with a better one is above this is dropped (merging: shared pixels"
        " over the smaller mask's)",
        0.0,
        1.0,
    )
    min_area: int = _option(
        16, "smallest mask that is kept, in source image pixels", 0, 1_000_000_000
    )
    score_threshold: float = _option(
        0.0, "least score of a mask that is kept: its expected IoU with a thing", 0.0, 1.0
    )
    min_hole_area: int = _option(
        0, "holes of a mask below this many source image pixels are filled", 0, 1_000_000_000
    )
    min_island_area: int = _option(
        0,
        "pieces of a mask below this many source image pixels are removed, but for the largest",
        0,
        1_000_000_000,
    )
    min_island_share: float = _option(
        0.0, "pieces of a mask below this share of its largest piece are removed", 0.0, 1.0
    )
    granularity: str = _option(
        "all",
        "which of the masks that lie in one another are kept: outermost, innermost, or all",
        choices=("objects", "parts", "all"),
    )
    candidates: str = _option(
        "best",
        "which of a prompt's three masks compete: the one with the best score, or all",
        choices=("best", "all"),
    )
    combine: str = _option(
        "nms",
        "how overlapping masks are resolved: suppression by mask IoU or by box IoU, or merging",
        choices=("nms", "box_nms", "merge"),
    )
    refine: int = _option(
        0, "further passes for each mask that passed the filters, each from its own box", 0, 4
    )


@dataclass(frozen=True)
class ClusterOptions(_Group):
    """Prompts from clusters of features; each field is the option `clusters.<field>`."""

    group = "clusters"
    preset: str = _option(
        "high_quality",
        "min_samples and min_cluster_size of the prompt source clusters, by Efficient SAM2's names",
        choices=("low_latency", "high_quality", "sam3d", "sam1"),
    )
    min_samples: int = _option(
        0, "cells that make a cell's neighbourhood dense; 0 = the preset's", 0, 1000
    )
    min_cluster_size: int = _option(
        0, "cells of the smallest cluster, at least 2; 0 = the preset's", 0, 4096
    )
    side: int = _option(
        32, "attention or embedding are pooled to at most this many cells a side", 2, 64
    )


@dataclass(frozen=True)
class BoxOptions(_Group):
    """Prompts from a detector's boxes; each field is the option `boxes.<field>`."""

    group = "boxes"
    refine: int = _option(0, "further passes for a detector's box, each on the mask before", 0, 8)


@dataclass(frozen=True)
class GridOptions(_Group):
    """Prompts from a grid; each field is the option `grid.<field>`."""

    group = "grid"
    crop_layers: int = _option(
        0, "further passes of a grid over 4, 16, 64 overlapping crops of the image", 0, 3
    )


OPTIONS: Mapping[str, OptionSpec] = {
    f"{group.group}.{option.name}": option.metadata["spec"]
    for group in (
        EncoderOptions, AsfOptions, MaskOptions, ClusterOptions, BoxOptions, GridOptions,
    )
    for option in fields(group)
}  # fmt: skip


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


def name_in_group(group: str, key: str) -> str:
    """Name the option that `key` stands for in a bundle's group of defaults.

    A group called after a prompt source (grid, boxes, clusters, ...) holds that source's own
    options, `group.key`, and what it takes in place of `mask.key`.
    """
    own = f"{group}.{key}"
    return own if own in OPTIONS or group in ("asf", "mask") else f"mask.{key}"
