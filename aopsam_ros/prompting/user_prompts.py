"""A prompt of the user's own: points on and beside an object, a box, a mask to begin with."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.errors import InputError
from aopsam_ros.geometry import FrameGeometry

MOST_POINTS = 64  # of one prompt; engines may take fewer and say so
BACKGROUND, OBJECT, TOP_LEFT, BOTTOM_RIGHT = 0, 1, 2, 3  # labels, as the decoder takes them
Corners = tuple[float, float, float, float]


@dataclass(frozen=True)
class UserPrompt:
    """What is meant on one image.

    `points` float64 `[K, 2]`, x and y in source pixels; `labels` `[K]`, 1 on the object and 0
    beside it; `box` left, top, right, bottom at the pixels' edges, so that a whole image is
    0, 0, width, height; `mask` bool `[H, W]`, to begin with.

    Raises:
        InputError: if the arrays do not fit together, a number is not finite, or nothing is meant.
    """

    points: NDArray[np.float64]
    labels: NDArray[np.uint8]
    box: Corners | None = None
    mask: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if self.points.shape != (len(self.labels), 2):
            raise InputError(
                f"points must be [K, 2] and labels [K], not {list(self.points.shape)} and "
                f"{list(self.labels.shape)}"
            )
        if len(self.points) > MOST_POINTS:
            raise InputError(f"a prompt has at most {MOST_POINTS} points, not {len(self.points)}")
        if not np.isfinite(self.points).all():
            raise InputError("a point has a coordinate that is not finite")
        if not np.isin(self.labels, (BACKGROUND, OBJECT)).all():
            raise InputError("a label is 1 for a point on the object, or 0 for one beside it")
        if self.box is None and not (self.labels == OBJECT).any():
            raise InputError("a prompt needs a point on the object, or a box")

    def inside(self, geometry: FrameGeometry) -> UserPrompt:
        """Cut the box at the image's edges.

        Raises:
            InputError: if a point lies outside the image, nothing of the box inside, or the mask is
                another image's.
        """
        size = (geometry.width, geometry.height)
        if self.mask is not None and self.mask.shape != size[::-1]:
            raise InputError(f"the mask is not of an image of {size[0]}x{size[1]} pixels")
        if ((self.points < 0) | (self.points >= size)).any():
            raise InputError(f"a point lies outside the image of {size[0]}x{size[1]} pixels")
        if self.box is None:
            return self
        corners = np.clip(np.reshape(self.box, (2, 2)), 0, np.array(size))
        left, top, right, bottom = corners.ravel().tolist()
        if not (left < right and top < bottom):
            raise InputError(f"the box lies outside the image of {size[0]}x{size[1]} pixels")
        return replace(self, box=(left, top, right, bottom))

    def continues(self, before: UserPrompt) -> bool:
        """Tell whether this is an earlier prompt with further points, or the same."""
        count = len(before.points)
        return (
            self.box == before.box
            and np.array_equal(self.points[:count], before.points)
            and np.array_equal(self.labels[:count], before.labels)
        )

    def as_decoder_input(self) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Return coordinates `[1, K, 2]` and labels `[1, K]` as the decoder takes them."""
        points, labels = self.points, self.labels.astype(np.float32)
        if self.box is not None:
            points = np.concatenate([points, np.reshape(self.box, (2, 2))])
            labels = np.append(labels, np.array([TOP_LEFT, BOTTOM_RIGHT], np.float32))
        return points[None], labels[None]

    @property
    def anchor(self) -> tuple[float, float]:
        """The one point that stands for the prompt in messages."""
        on_object = self.points[self.labels == OBJECT]
        if len(on_object):
            return float(on_object[0, 0]), float(on_object[0, 1])
        assert self.box is not None  # else there is a point on the object
        left, top, right, bottom = self.box
        return (left + right) / 2 - 0.5, (top + bottom) / 2 - 0.5
