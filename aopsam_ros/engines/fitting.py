"""Leaving padding out: how much of the padded square a graph has to see.

SAM pads every image to a square. Of a picture of 16:9 that is seven parts of sixteen, for which a
graph computes as much as for the rest. Neither convolutions nor attention in windows ask for it:
graphs that take any size get the image's own, and their maps are put back into those of the square,
which everybody knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Sides = tuple[int, int]  # rows and columns


@dataclass(frozen=True)
class Fitted:
    """The part of a padded square that graphs see: `rows` x `columns` pixels of `square`."""

    rows: int
    columns: int
    square: int

    def of(self, size: int) -> Sides:
        """Return rows and columns of this part in a map of `size` x `size` over the square."""
        return -(-self.rows * size // self.square), -(-self.columns * size // self.square)

    def crop(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return this part of an image `[..., S, S]`, contiguous."""
        return np.ascontiguousarray(image[..., : self.rows, : self.columns])


def fit(valid: Sides | None, square: int, multiple: int) -> Fitted:
    """Return the smallest part of a square that graphs can see and that holds what is valid.

    Args:
        valid: rows and columns that show the image; None: all.
        square: side of the padded square, pixels.
        multiple: what the part's sides have to be multiples of; 0: only the square will do.
    """
    if valid is None or not multiple:
        return Fitted(square, square, square)
    rows, columns = (min(square, -(-max(1, side) // multiple) * multiple) for side in valid)
    return Fitted(rows, columns, square)


def put_back(
    part: NDArray[np.float32], size: int, mode: Literal["constant", "edge"] = "constant"
) -> NDArray[np.float32]:
    """Put a part of a map, `[..., rows, columns]`, back into one of `size` x `size`.

    Args:
        part: top left.
        size: of the map.
        mode: what is beside it: "constant" for zeros, "edge" for what the part ends with.
    """
    rows, columns = part.shape[-2:]
    if (rows, columns) == (size, size):
        return part
    beside = [(0, 0)] * (part.ndim - 2) + [(0, size - rows), (0, size - columns)]
    return np.pad(part, beside, mode)
