"""The one table of options: type, default, range and meaning of each.

They are written here only: the dataclasses of `options`, the command line and the node's parameters
are all made from `OPTIONS`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

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


OPTIONS: Mapping[str, OptionSpec] = {
    "encoder.padding": OptionSpec(
        "square",
        "how far the image is padded: to a square, or least, which is faster; engines and"
        " models that need the square pad to it in any case",
        choices=("square", "least"),
    ),
    "asf.smoothing_sigma": OptionSpec(
        2.0, "Gaussian smoothing of the prompt confidence map, in its pixels", 0.0, 32.0
    ),
    "asf.confidence_threshold": OptionSpec(
        0.2, "a candidate prompt's least confidence after smoothing", 0.0, 1.0
    ),
    "asf.min_spacing": OptionSpec(
        6, "least distance between candidate prompts, in confidence map pixels", 1, 256
    ),
    "asf.sampling": OptionSpec(
        "peaks",
        "where prompts are sampled: at the map's peaks, or at these and then wherever else it"
        " is above the threshold, at the least distance",
        choices=("peaks", "fill"),
    ),
    "asf.prompts": OptionSpec(
        "extents",
        "points, as in the paper, or points with the box that the predictor expects around each,"
        " where the model has extents",
        choices=("points", "extents"),
    ),
    "asf.extent_overlap": OptionSpec(
        0.6,
        "IoU of two prompts' boxes above which they mean one object: the surer one is decoded",
        0.0,
        1.0,
    ),
    "asf.prompt_form": OptionSpec(
        "point",
        "what is decoded of a prompt with a box: the point, the box, or both",
        choices=("point", "box", "both"),
    ),
    "asf.elimination_threshold": OptionSpec(
        1.3,
        "factor k of the elimination threshold of the rules paper, max and max_inside; lower"
        " drops more prompts",
        0.0,
        10.0,
    ),
    "asf.elimination_cosine": OptionSpec(
        0.75,
        "cosine of two prompts' features from which the rule duplicates drops one; lower drops"
        " more prompts",
        0.0,
        1.0,
    ),
    "asf.elimination_iou": OptionSpec(
        0.0, "least predicted IoU of a mask that may drop remaining prompts", 0.0, 1.0
    ),
    "asf.filtering": OptionSpec(
        "duplicates",
        "rule that drops remaining prompts after each batch of masks",
        choices=("paper", "none", "inside", "max", "max_inside", "inside_all", "duplicates"),
    ),
    "asf.batch_size": OptionSpec(
        8,
        "prompts decoded in one call of the decoder; it may be more where no prompt is filtered and"
        " no time budget is set",
        1,
        1024,
    ),
    "asf.max_prompts": OptionSpec(
        256,
        "most prompts decoded for an image, and for each of its crops; by default all points of a"
        " grid, all boxes and all clusters",
        1,
        4096,
    ),
    "asf.time_budget_ms": OptionSpec(
        0, "milliseconds for a frame, best prompts first; 0 = no limit", 0, 600_000
    ),
    "mask.predicted_iou_threshold": OptionSpec(
        0.5, "least predicted IoU of a mask that is kept", 0.0, 1.0
    ),
    "mask.stability_threshold": OptionSpec(
        0.7, "least stability score of a mask that is kept", 0.0, 1.0
    ),
    "mask.overlap_threshold": OptionSpec(
        0.7,
        "a mask whose IoU with a better one is above this is dropped (merging: shared pixels"
        " over the smaller mask's)",
        0.0,
        1.0,
    ),
    "mask.min_area": OptionSpec(
        16, "smallest mask that is kept, in source image pixels", 0, 1_000_000_000
    ),
    "mask.score_threshold": OptionSpec(
        0.0, "least score of a mask that is kept: its expected IoU with a thing", 0.0, 1.0
    ),
    "mask.min_hole_area": OptionSpec(
        0, "holes of a mask below this many source image pixels are filled", 0, 1_000_000_000
    ),
    "mask.min_island_area": OptionSpec(
        0,
        "pieces of a mask below this many source image pixels are removed, but for the largest",
        0,
        1_000_000_000,
    ),
    "mask.granularity": OptionSpec(
        "all",
        "which of the masks that lie in one another are kept: outermost, innermost, or all",
        choices=("objects", "parts", "all"),
    ),
    "mask.candidates": OptionSpec(
        "best",
        "which of a prompt's three masks compete: the one with the best score, or all",
        choices=("best", "all"),
    ),
    "mask.combine": OptionSpec(
        "nms",
        "how overlapping masks are resolved: suppression by mask IoU or by box IoU, or merging",
        choices=("nms", "box_nms", "merge"),
    ),
    "mask.refine": OptionSpec(
        0,
        "further passes for each mask that passed the filters, each from its own box",
        0,
        4,
    ),
    "clusters.preset": OptionSpec(
        "high_quality",
        "min_samples and min_cluster_size of the prompt source clusters, by Efficient SAM2's names",
        choices=("low_latency", "high_quality", "sam3d", "sam1"),
    ),
    "clusters.min_samples": OptionSpec(
        0, "cells that make a cell's neighbourhood dense; 0 = the preset's", 0, 1000
    ),
    "clusters.min_cluster_size": OptionSpec(
        0, "cells of the smallest cluster, at least 2; 0 = the preset's", 0, 4096
    ),
    "clusters.side": OptionSpec(
        32, "attention or embedding are pooled to at most this many cells a side", 2, 64
    ),
    "boxes.refine": OptionSpec(
        0, "further passes for a detector's box, each on the mask before", 0, 8
    ),
    "grid.crop_layers": OptionSpec(
        0, "further passes of a grid over 4, 16, 64 overlapping crops of the image", 0, 3
    ),
}
