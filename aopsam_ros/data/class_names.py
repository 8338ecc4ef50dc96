"""What the instances of label maps are called: classes.json, and the classes of PASCAL VOC."""

import functools
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.errors import DatasetError

CLASSES_FILE = "classes.json"
VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "dining table", "dog", "horse", "motorbike", "person", "potted plant", "sheep", "sofa",
    "train", "tv monitor",
)  # fmt: skip
VOC_VOID = 255


class ClassNames:
    """Names by image and label, from the classes.json of a set of label maps, if it has one.

    The file lies in the set's folder or up to two above: `{"<id>": {"<value>": "<name>"}}`, where
    the ids may begin with the names of the folders below the file.
    """

    def __init__(self, folder: Path) -> None:
        self._prefix, self._content, self._file = "", {}, folder / CLASSES_FILE
        for parts, place in enumerate((folder, folder.parent, folder.parent.parent)):
            if (place / CLASSES_FILE).is_file():
                self._file = place / CLASSES_FILE
                self._prefix = "/".join((*folder.absolute().parts[-parts:], "")) if parts else ""
                try:
                    self._content = json.loads(self._file.read_text(encoding="utf-8"))
                except (ValueError, RecursionError) as error:
                    raise DatasetError(f"{self._file}: not JSON ({error})") from error
                break

    def of(self, stem: str) -> dict[int, str]:
        """Return the names of an image's labels.

        Raises:
            DatasetError: if they are malformed.
        """
        try:
            content = self._content.get(self._prefix + stem) or self._content.get(stem) or {}
            return {int(label): str(name) for label, name in content.items()}
        except (AttributeError, ValueError) as error:
            raise DatasetError(
                f'{self._file}: {stem}: must be {{"<id>": {{"<value>": "<name>"}}}} ({error})'
            ) from error


@functools.cache
def voc_colours() -> NDArray[np.int64]:
    """Return VOC's 256 colours as numbers 65536 R + 256 G + B, by index."""
    index, colours = np.arange(256), np.zeros(256, np.int64)
    for bit in range(8):  # three bits of the index at a time, from the highest bit of a colour on
        for channel, shift in enumerate((16, 8, 0)):
            colours |= ((index >> (3 * bit + channel)) & 1) << (7 - bit + shift)
    return colours


def voc_indices(image: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Turn a label image back to its indices `[H, W]`, void to 0.

    It is grey, the indices themselves, or has the colours `[H, W, 3]` of VOC's palette, blue first.

    Raises:
        ValueError: if a colour is not of the palette.
    """
    if image.ndim == 2:
        indices = image.astype(np.int64)
    else:
        colours = image.astype(np.int64) @ [1, 1 << 8, 1 << 16]
        order = np.argsort(voc_colours())
        place = np.searchsorted(voc_colours(), colours, sorter=order).clip(0, 255)
        indices = order[place]
        if (voc_colours()[indices] != colours).any():
            raise ValueError("a colour is not of VOC's palette")
    return np.where(indices == VOC_VOID, 0, indices).astype(np.uint16)
