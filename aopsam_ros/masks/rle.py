"""Row-major run-length encoding of a mask inside its box, and the checks on what others encoded.

The first run is background and may be 0; then foreground and background alternate. COCO's encoding
differs: it is column-major and covers the whole image.
"""

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.errors import MaskFormatError

# A box of more pixels than this is refused before anything is allocated for it.
MAX_PIXELS = 1 << 28
MAX_COORDINATE = 2**32 - 1  # as in `msg/Mask.msg`

Box = tuple[int, int, int, int]


class EncodedMask(NamedTuple):
    """A mask's tight box (x, y, w, h), its pixels set, and its run lengths inside the box."""

    bbox: Box
    area: int
    counts: NDArray[np.uint32]


def encode(crop: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """Encode the pixels inside a box, bool `[h, w]`, as run lengths, uint32.

    An empty box gives no runs.

    Raises:
        MaskFormatError: if the array is not two-dimensional or larger than `MAX_PIXELS`.
    """
    pixels = np.asarray(crop)
    if pixels.ndim != 2 or pixels.size > MAX_PIXELS:
        raise MaskFormatError(f"a mask must be [h, w] of at most {MAX_PIXELS} pixels")
    flat = np.ascontiguousarray(pixels, dtype=np.bool_).ravel()
    if flat.size == 0:
        return np.zeros(0, np.uint32)
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    first = [0, 0] if flat[0] else [0]  # a mask that starts set starts with an empty run
    edges = np.concatenate((first, changes, [flat.size]))
    return np.diff(edges).astype(np.uint32)


def encode_full(mask: NDArray[np.bool_]) -> tuple[Box, NDArray[np.uint32]]:
    """Encode a whole image's mask, bool `[H, W]`, as its tight box (x, y, w, h) and run lengths.

    A mask without a pixel set gives the box (0, 0, 0, 0) and no runs.
    """
    box = tight_box(mask)
    x, y, w, h = box
    return box, encode(mask[y : y + h, x : x + w])


def tight_box(mask: NDArray[np.bool_]) -> Box:
    """Return the smallest box (x, y, w, h) around the pixels set; (0, 0, 0, 0) for none."""
    x, y, w, h = cv2.boundingRect(np.ascontiguousarray(mask, np.bool_).view(np.uint8))
    return x, y, w, h


def decode(mask: Any) -> NDArray[np.bool_]:  # noqa: ANN401  (a message or an InstanceMask)
    """Decode a mask to the pixels inside its box, bool `[h, w]`.

    It is an `InstanceMask`, or anything with the fields of `msg/Mask.msg` (`roi`, `counts`).

    Raises:
        MaskFormatError: if the box is impossible or the counts do not fill it exactly.
    """
    _, _, w, h = box_of(mask)
    counts = _checked_counts(mask.counts, w * h)
    values = (np.arange(counts.size) & 1).astype(np.bool_)
    return np.repeat(values, counts).reshape(h, w)


def decode_full(mask: Any, height: int, width: int) -> NDArray[np.bool_]:  # noqa: ANN401
    """Decode a mask to a whole image of `height` x `width` pixels, bool.

    Raises:
        MaskFormatError: as `decode`, or if the box is not inside the image.
    """
    require_image(height, width)
    x, y, w, h = require_inside(mask, height, width)
    crop = decode(mask)
    full = np.zeros((height, width), np.bool_)
    full[y : y + h, x : x + w] = crop
    return full


def require_image(height: int, width: int) -> None:
    """Refuse an image that is empty or larger than `MAX_PIXELS`.

    Raises:
        MaskFormatError: if it is.
    """
    if height <= 0 or width <= 0 or height * width > MAX_PIXELS:
        raise MaskFormatError(f"an image of {width} x {height} pixels cannot be decoded")


def require_inside(mask: Any, height: int, width: int) -> Box:  # noqa: ANN401
    """Return the box (x, y, w, h) of a mask in an image of `height` x `width` pixels.

    Raises:
        MaskFormatError: as `box_of`, or if the box is not inside the image.
    """
    x, y, w, h = box_of(mask)
    if x + w > width or y + h > height:
        raise MaskFormatError(
            f"the box x={x} y={y} w={w} h={h} is not inside the image of {width} x {height} pixels"
        )
    return x, y, w, h


def box_of(mask: Any) -> Box:  # noqa: ANN401  (a message or an InstanceMask)
    """Return the box (x, y, w, h) of an `InstanceMask` or a `msg/Mask.msg`.

    Raises:
        MaskFormatError: if a value is negative, the box has more than `MAX_PIXELS` pixels or ends
            beyond `MAX_COORDINATE`.
    """
    if hasattr(mask, "roi"):
        roi = mask.roi
        values = (roi.x_offset, roi.y_offset, roi.width, roi.height)
    else:
        values = tuple(mask.bbox)
    if len(values) != 4 or not all(float(v).is_integer() and v >= 0 for v in values):
        raise MaskFormatError(f"a mask's box must be four whole numbers from 0, not {values}")
    x, y, w, h = (int(v) for v in values)
    if w * h > MAX_PIXELS:
        raise MaskFormatError(f"a mask's box of {w} x {h} pixels is too large")
    if max(x + w, y + h) > MAX_COORDINATE:
        raise MaskFormatError(f"the box x={x} y={y} w={w} h={h} ends beyond any image")
    return x, y, w, h


def _checked_counts(counts: Any, pixels: int) -> NDArray[np.int64]:  # noqa: ANN401
    """Return run lengths as int64, or say why they cannot fill a box of so many pixels."""
    runs = np.asarray(counts)
    if runs.size == 0 and pixels == 0:
        return np.zeros(0, np.int64)
    if runs.ndim != 1 or runs.dtype.kind not in "iu":
        raise MaskFormatError("a mask's counts must be a list of whole numbers")
    if runs.size > pixels + 1:
        raise MaskFormatError(f"a mask has {runs.size} runs, too many for {pixels} pixels")
    # Checked one by one first, so that the sum below cannot overflow.
    if runs.min(initial=0) < 0 or runs.max(initial=0) > pixels:
        raise MaskFormatError(f"a mask's run is negative or longer than its box ({pixels} pixels)")
    if np.any(runs[1:] == 0):
        raise MaskFormatError("a mask has an empty run after the first")
    total = int(runs.sum(dtype=np.int64))
    if total != pixels:
        raise MaskFormatError(f"a mask's counts sum to {total}, but its box has {pixels} pixels")
    return runs.astype(np.int64)
