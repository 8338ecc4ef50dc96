"""COCO's polygons and run lengths to masks, checked first.

pycocotools trusts what it decodes: a coordinate that is not finite or far away ends the process,
and pixels that the runs do not reach are whatever the memory held.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.errors import DatasetError

LEAST_NUMBERS = 6  # of a polygon with an area: three corners


def decode_mask(
    segmentation: object, size: tuple[int, int], source: Path | str
) -> NDArray[np.bool_]:
    """Decode COCO polygons or run lengths, packed or not, to `bool [H, W]`.

    Polygons of one or two corners have no area, and are left out.

    Raises:
        DatasetError: if they are malformed or not of this size; the message names the source.
    """
    from pycocotools import mask as coco  # only the formats with such masks need it

    try:
        if isinstance(segmentation, list):
            _check_polygons(segmentation, size)
            # One of two corners, as labelling tools leave them, pycocotools takes for a box.
            areas = [polygon for polygon in segmentation if len(polygon) >= LEAST_NUMBERS]
            if not areas:
                return np.zeros(size, np.bool_)
            rle = coco.merge(coco.frPyObjects(areas, *size))
        else:
            rle = _checked_runs(segmentation, size)
            rle = coco.frPyObjects(rle, *size) if isinstance(rle["counts"], list) else rle
        return np.asarray(coco.decode(rle).astype(np.bool_))
    except Exception as error:  # pycocotools raises bare Exception for malformed input
        raise DatasetError(f"{source}: malformed segmentation ({error})") from error


def _check_polygons(polygons: list[Any], size: tuple[int, int]) -> None:
    """Raise ValueError where a polygon has no corner, or one farther away than the image is long.

    Pixels are counted along each side: a corner far away would take all memory.
    """
    reach = max(size)
    for polygon in polygons:
        corners = np.asarray(polygon, np.float64)
        if corners.ndim != 1 or corners.size < 2:
            raise ValueError("a polygon must be a list of coordinates")
        if not (np.abs(corners - reach / 2) <= 1.5 * reach).all():
            raise ValueError("a polygon's corner is not finite, or far from the image")


def _checked_runs(rle: Any, size: tuple[int, int]) -> dict[str, Any]:  # noqa: ANN401
    """Return run lengths if they fill a mask of this size exactly."""
    if tuple(rle["size"]) != size:
        raise ValueError(f"a mask of {tuple(rle['size'])} for an image of {size}")
    packed = not isinstance(rle["counts"], list)
    runs = _unpack(rle["counts"]) if packed else np.asarray(rle["counts"])
    if runs.dtype.kind not in "iu" or runs.min() < 0 or runs.sum() != size[0] * size[1]:
        raise ValueError(f"the runs do not fill {size[0]} x {size[1]} pixels")
    return dict(rle)


def _unpack(text: str | bytes) -> NDArray[np.int64]:
    """Return the run lengths of COCO's packed form: rleFrString of pycocotools.

    A number is 5 bits a character, the lowest first, of which the last one says the sign; from the
    fourth number on it is the difference from the one but one before.
    """
    content = text.encode("ascii") if isinstance(text, str) else bytes(text)
    codes = np.frombuffer(content, np.uint8).astype(np.int64) - ord("0")
    is_last = codes & 32 == 0
    if not codes.size or codes.min() < 0 or codes.max() > 63 or not is_last[-1]:
        raise ValueError("the packed runs are damaged")
    last = np.flatnonzero(is_last)
    start = np.append(0, last[:-1] + 1)
    place = np.arange(codes.size) - np.repeat(start, last - start + 1)
    if place.max() > 6:  # 35 bits: more than any run has
        raise ValueError("the packed runs are damaged")
    runs = np.add.reduceat((codes & 31) << 5 * place, start)
    runs -= (codes[last] >> 4 & 1) << 5 * (place[last] + 1)
    for first in (1, 2):
        runs[first::2] = runs[first::2].cumsum()
    return np.asarray(runs, np.int64)
