"""Masks in the forms that other software takes: label maps, COCO's run lengths, polygons.

Every function takes `InstanceMask` objects of a `Segmentation` as well as `msg/Mask.msg` messages.
"""

from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.masks.rle import box_of, decode, decode_full, encode, require_image, require_inside

SEAM = 3  # pixels between two masks that still touch: outlines are no surer than that


def to_label_map(masks: Iterable[Any], height: int, width: int) -> NDArray[np.uint32]:
    """Paint masks over one another in the order given; a `MaskArray`'s puts small ones on top.

    Returns:
        uint32 `[height, width]`: the mask's id, 0 where there is none.

    Raises:
        MaskFormatError: if a mask is malformed or not inside the image.
    """
    require_image(height, width)
    labels = np.zeros((height, width), np.uint32)
    for mask in masks:
        x, y, w, h = require_inside(mask, height, width)
        labels[y : y + h, x : x + w][decode(mask)] = mask.id
    return labels


def fill_seams(labels: NDArray[np.uint16]) -> None:
    """Close the gaps of a label map where two masks touch; each pixel goes to the nearer one.

    A gap is a run of at most `SEAM` pixels of 0, along a row or a column, between two labels.
    """
    for lines in (labels, labels.T):
        pixels, length = lines.flatten(), lines.shape[1]
        bounds = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
        start, end = bounds[:-1], bounds[1:]  # of runs of one label
        gap = (pixels[start] == 0) & (end - start <= SEAM) & (pixels[start - 1] != pixels[end])
        gap &= (start - 1) // length == end // length  # on one line
        start, end = start[gap], end[gap]
        before, after = pixels[start - 1], pixels[end]
        for step in range(SEAM):
            inside = start + step < end
            nearest = np.where(2 * step < end - start, before, after)
            pixels[start[inside] + step] = nearest[inside]
        lines[:] = pixels.reshape(lines.shape)


def to_coco(mask: Any, height: int, width: int) -> dict[str, Any]:  # noqa: ANN401
    """Return a mask as COCO's uncompressed run lengths: column by column over the whole image.

    Returns:
        `{"size": [height, width], "counts": [...]}`, which pycocotools' `frPyObjects` takes.

    Raises:
        MaskFormatError: if the mask is malformed or not inside the image.
    """
    counts = encode(decode_full(mask, height, width).T)
    return {"size": [height, width], "counts": counts.tolist()}


def to_polygons(mask: Any, tolerance: float = 0.0) -> list[NDArray[np.int32]]:  # noqa: ANN401
    """Return the outer outlines of a mask's parts, largest part first; holes are left out.

    An outline is int32 `[n, 2]`, x and y of border pixels in the image, closed from last to first.
    Simplified, it strays by at most `tolerance` pixels; 0 keeps every corner. A part of one or two
    pixels has as many corners.

    Raises:
        MaskFormatError: if the mask is malformed.
    """
    x, y, _, _ = box_of(mask)
    crop = decode(mask).astype(np.uint8)
    if crop.size == 0:
        return []
    contours, _ = cv2.findContours(crop, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(x, y))
    if tolerance > 0:
        contours = [cv2.approxPolyDP(contour, tolerance, True) for contour in contours]
    outlines = [np.asarray(contour, np.int32).reshape(-1, 2) for contour in contours]
    return sorted(outlines, key=cv2.contourArea, reverse=True)
