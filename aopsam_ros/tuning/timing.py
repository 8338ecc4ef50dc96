"""Times of the real pipeline: to estimate those of trials, and to hold the winner to its word."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.options import SegmenterOptions
from aopsam_ros.prompting.boxes import Boxes
from aopsam_ros.segmentation.segmenter import Segmenter
from aopsam_ros.tuning.score import TimeModel

Frame = tuple[NDArray[np.uint8], Boxes | None]

_BUDGETS = (2, 16, 64)  # of prompts: few, some and many
FRAMES = 4  # photographs that are timed


def measure_times(
    segmenter: Segmenter, frames: Sequence[Frame], options: SegmenterOptions
) -> TimeModel:
    """Time some photographs with different numbers of prompts.

    Args:
        segmenter: that runs them.
        frames: images and, where the prompt source needs them, their boxes.
        options: everything but the number of prompts.
    """
    runs = []
    for most in _BUDGETS:
        limited = options.updated({"asf.max_prompts": most, "asf.time_budget_ms": 0})
        for rgb, boxes in frames:
            segmenter.segment(rgb, limited, boxes)  # only warms up
            found = segmenter.segment(rgb, limited, boxes)
            runs.append((found.prompts_decoded, len(found.masks), found.timings_ms["total"]))
    return TimeModel.fit(runs)


def median_time(segmenter: Segmenter, frames: Sequence[Frame], options: SegmenterOptions) -> float:
    """Return the median milliseconds of photographs, the first run of each left out."""
    times = []
    for rgb, boxes in frames:
        segmenter.segment(rgb, options, boxes)
        times.append(segmenter.segment(rgb, options, boxes).timings_ms["total"])
    return float(np.median(times))
