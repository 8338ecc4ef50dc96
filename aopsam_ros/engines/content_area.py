"""Leaving padding out: the part of the padded square that graphs compute.

SAM pads every image to a square, of which an image of 16:9 fills nine parts of sixteen. Graphs that
take any size get the image's part alone, and their maps are padded to those of the square.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Sides = tuple[int, int]  # rows and columns


@dataclass(frozen=True)
class ContentArea:
    """The top left `rows` x `columns` pixels of a padded square of side `square`."""

    rows: int
    columns: int
    square: int

    def in_map(self, side: int) -> Sides:
        """Return rows and columns of this area in a map of `side` x `side` over the square."""
        return -(-self.rows * side // self.square), -(-self.columns * side // self.square)


def content_area(valid: Sides | None, square: int, multiple: int) -> ContentArea:
    """Return the smallest area that graphs can take and that holds the image.

    Args:
        valid: rows and columns that show the image; None: all.
        square: side of the padded square, pixels.
        multiple: what the area's sides have to be multiples of; 0: graphs take the square only.
    """
    if valid is None or not multiple:
        return ContentArea(square, square, square)
    rows, columns = (min(square, -(-max(1, side) // multiple) * multiple) for side in valid)
    return ContentArea(rows, columns, square)


def crop_to_content(image: NDArray[np.float32], area: ContentArea) -> NDArray[np.float32]:
    """Return the area's part of an image `[..., S, S]`, contiguous."""
    return np.ascontiguousarray(image[..., : area.rows, : area.columns])


def pad_to_square(
    part: NDArray[np.float32], side: int, mode: Literal["constant", "edge"] = "constant"
) -> NDArray[np.float32]:
    """Pad the top left part of a map, `[..., rows, columns]`, to `[..., side, side]`.

    Args:
        part: of the map.
        side: of the map.
        mode: "constant" pads with zeros, "edge" with the part's last row and column.
    """
    rows, columns = part.shape[-2:]
    if (rows, columns) == (side, side):
        return part
    beyond = [(0, 0)] * (part.ndim - 2) + [(0, side - rows), (0, side - columns)]
    return np.pad(part, beyond, mode)
