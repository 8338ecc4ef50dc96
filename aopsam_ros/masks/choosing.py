"""Which of an image's masks is meant: by a point, a box, a label, an id, or several of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aopsam_ros.errors import InputError, quoted
from aopsam_ros.geometry import paired_iou
from aopsam_ros.masks.rle import decode
from aopsam_ros.results import InstanceMask


@dataclass(frozen=True)
class Criteria:
    """What a mask has to fulfil; all that is given.

    Raises:
        InputError: if nothing is given, or a number is not finite.
    """

    point: tuple[float, float] | None = None  # inside the mask; x and y in source pixels
    # overlaps the mask's; left, top, right, bottom in source pixels, at the pixels' edges
    box: tuple[float, float, float, float] | None = None
    label: str = ""  # its own; "": any
    id: int = 0  # its own; 0: any

    def __post_init__(self) -> None:
        if self.point is None and self.box is None and not self.label and not self.id:
            raise InputError("say what is meant: a point, a box, a label or an id")
        if not np.isfinite([*(self.point or ()), *(self.box or ())]).all():
            raise InputError("a coordinate is not finite")


def choose(masks: Sequence[InstanceMask], criteria: Criteria) -> InstanceMask:
    """Return the mask that is meant: of those that fulfil all criteria, the best.

    With a box that is the one whose own box agrees most, else the one of the highest score.

    Raises:
        InputError: if no mask fulfils them; the message names the first that none does.
    """
    left = list(masks)
    if not left:
        raise InputError("the newest image has no masks")
    if criteria.id:
        left = _some([m for m in left if m.id == criteria.id], f"has the id {criteria.id}")
    if criteria.label:
        found = [m for m in left if m.label == criteria.label]
        left = _some(found, f"is labelled {quoted(criteria.label)}")
    if criteria.point is not None:
        x, y = criteria.point
        left = _some([m for m in left if contains(m, x, y)], f"is at {x:g}, {y:g}")
    if criteria.box is None:
        return max(left, key=lambda mask: mask.score)
    boxes = np.array([mask.corners for mask in left])
    agreement = paired_iou(boxes, np.array(criteria.box))
    if not agreement.any():
        raise InputError("no mask of the newest image touches the box")
    return left[int(agreement.argmax())]


def contains(mask: InstanceMask, x: float, y: float) -> bool:
    """Tell whether a point, in source pixels, lies in a mask."""
    left, top, width, height = mask.bbox
    column, row = round(x) - left, round(y) - top
    return 0 <= column < width and 0 <= row < height and bool(decode(mask)[row, column])


def _some(found: list[InstanceMask], what: str) -> list[InstanceMask]:
    if not found:
        raise InputError(f"no mask of the newest image {what}")
    return found
