"""A detector's message as box prompts."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from vision_msgs.msg import Detection2D, Detection2DArray

from aopsam_ros.errors import InputError


def boxes_of(message: Detection2DArray) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Return the boxes of a detector's message.

    A turned box counts as the upright one around it.

    Returns:
        corners float64 `[N, 4]`: left, top, right, bottom in image pixels, at the pixels' edges;
        scores float32 `[N]`: a detection's best, 1 where it has none.

    Raises:
        InputError: if a number is not finite, or a size is negative.
    """
    rows = [_corners(detection, index) for index, detection in enumerate(message.detections)]
    scores = [_score(detection, index) for index, detection in enumerate(message.detections)]
    return np.array(rows, np.float64).reshape(-1, 4), np.array(scores, np.float32)


def _corners(detection: Detection2D, index: int) -> tuple[float, float, float, float]:
    box = detection.bbox
    x, y, theta = box.center.position.x, box.center.position.y, box.center.theta
    width, height = box.size_x, box.size_y
    if not all(map(math.isfinite, (x, y, theta, width, height))) or min(width, height) < 0:
        raise InputError(
            f"detection {index} has an impossible box: {width:g} x {height:g} pixels at "
            f"({x:g}, {y:g})"
        )
    cosine, sine = abs(math.cos(theta)), abs(math.sin(theta))
    across = (width * cosine + height * sine) / 2
    down = (width * sine + height * cosine) / 2
    return x - across, y - down, x + across, y + down


def _score(detection: Detection2D, index: int) -> float:
    score = max((result.hypothesis.score for result in detection.results), default=1.0)
    if not math.isfinite(score):
        raise InputError(f"detection {index} has a score that is not finite")
    return float(score)
