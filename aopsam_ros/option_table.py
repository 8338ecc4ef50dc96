"""The one table of options: type, default, range and meaning of each.

They are written here only: the dataclasses of `options`, the command line and the node's parameters
are all made from `OPTIONS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Value = float | int | str


@dataclass(frozen=True)
class OptionSpec:
    """Type, default, closed range (numbers) or choices (words), and meaning of one option."""

    type: type
    default: Value
    minimum: float | None
    maximum: float | None
    description: str
    choices: tuple[str, ...] = ()


OPTIONS: Mapping[str, OptionSpec] = {
    "encoder.padding": OptionSpec(
        str,
        "square",
        None,
        None,
        "how far the image is padded: to a square, or least, which is faster; engines and models"
        " that need the square pad to it in any case",
        ("square", "least"),
    ),
    "asf.smoothing_sigma": OptionSpec(
        float, 2.0, 0.0, 32.0, "Gaussian smoothing of the prompt confidence map, in its pixels"
    ),
    "asf.confidence_threshold": OptionSpec(
        float, 0.2, 0.0, 1.0, "a candidate prompt's least confidence after smoothing"
    ),
    "asf.min_spacing": OptionSpec(
        int, 6, 1, 256, "least distance between candidate prompts, in confidence map pixels"
    ),
    "asf.sampling": OptionSpec(
        str,
        "peaks",
        None,
        None,
        "where prompts are sampled: at the map's peaks, or at these and then wherever else it is"
        " above the threshold, at the least distance",
        ("peaks", "fill"),
    ),
    "asf.elimination_threshold": OptionSpec(
        float,
        1.3,
        0.0,
        10.0,
        "factor k of the elimination threshold of the rules paper, max and max_inside; lower drops"
        " more prompts",
    ),
    "asf.elimination_cosine": OptionSpec(
        float,
        0.75,
        0.0,
        1.0,
        "cosine of two prompts' features from which the rule duplicates drops one; lower"
        " drops more prompts",
    ),
    "asf.elimination_iou": OptionSpec(
        float, 0.0, 0.0, 1.0, "least predicted IoU of a mask that may drop remaining prompts"
    ),
    "asf.filtering": OptionSpec(
        str,
        "duplicates",
        None,
        None,
        "rule that drops remaining prompts after each batch of masks",
        ("paper", "none", "inside", "max", "max_inside", "inside_all", "duplicates"),
    ),
    "asf.batch_size": OptionSpec(int, 8, 1, 1024, "prompts decoded in one call of the decoder"),
    "asf.max_prompts": OptionSpec(
        int, 256, 1, 4096, "most prompts decoded for one frame (a grid decodes all of its points)"
    ),
    "asf.time_budget_ms": OptionSpec(
        int, 0, 0, 600_000, "milliseconds for a frame, best prompts first; 0 = no limit"
    ),
    "mask.predicted_iou_threshold": OptionSpec(
        float, 0.5, 0.0, 1.0, "least predicted IoU of a mask that is kept"
    ),
    "mask.stability_threshold": OptionSpec(
        float, 0.7, 0.0, 1.0, "least stability score of a mask that is kept"
    ),
    "mask.overlap_threshold": OptionSpec(
        float,
        0.7,
        0.0,
        1.0,
        "a mask whose IoU with a better one is above this is dropped"
        " (merging: shared pixels over the smaller mask's)",
    ),
    "mask.min_area": OptionSpec(
        int, 16, 0, 1_000_000_000, "smallest mask that is kept, in source image pixels"
    ),
    "mask.candidates": OptionSpec(
        str,
        "best",
        None,
        None,
        "which of a prompt's three masks compete: the one with the best predicted IoU, or all",
        ("best", "all"),
    ),
    "mask.combine": OptionSpec(
        str,
        "nms",
        None,
        None,
        "how overlapping masks are resolved: suppression by mask IoU or by box IoU, or merging",
        ("nms", "box_nms", "merge"),
    ),
    "clusters.preset": OptionSpec(
        str,
        "high_quality",
        None,
        None,
        "min_samples and min_cluster_size of the prompt source clusters, by Efficient SAM2's names",
        ("low_latency", "high_quality", "sam3d", "sam1"),
    ),
    "clusters.min_samples": OptionSpec(
        int, 0, 0, 1000, "cells that make a cell's neighbourhood dense; 0 = the preset's"
    ),
    "clusters.min_cluster_size": OptionSpec(
        int, 0, 0, 4096, "cells of the smallest cluster, at least 2; 0 = the preset's"
    ),
    "clusters.side": OptionSpec(
        int, 32, 2, 64, "the embedding is pooled to at most this many cells a side"
    ),
    "grid.crop_layers": OptionSpec(
        int, 0, 0, 3, "further passes of a grid over 4, 16, 64 overlapping crops of the image"
    ),
}
