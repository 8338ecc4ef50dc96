"""Images with the ground truth of their instances, and what data sets of them offer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class LabelledImage:
    """One image and its instances."""

    name: str  # unique within the data set
    rgb: NDArray[np.uint8]  # `uint8 [H, W, 3]`
    # `uint16 [L, H, W]`; 0 is unlabelled, every other value is one instance, unique over all
    # layers. Instances that overlap lie on different layers
    layers: NDArray[np.uint16]
    # annotated prompt points `float32 [N, 2]` (x, y in pixels) where the data has them
    points: NDArray[np.float32] | None = None
    # class of each instance that has one, by its label in `layers`
    classes: Mapping[int, str] = field(default_factory=dict)
    is_by_annotator: bool = False  # each layer is one person's division of the whole image

    def instances(self) -> list[tuple[int, int]]:
        """List (layer, label) of every instance."""
        return [
            (index, int(label))
            for index, layer in enumerate(self.layers)
            for label in np.unique(layer)
            if label
        ]

    def free_labels(self, count: int) -> NDArray[np.uint16]:
        """Return `count` labels of no instance, not even of one that a crop left out."""
        used = np.bincount(self.layers.ravel(), minlength=1 << 16)
        used[[0, *(label for label in self.classes if 0 <= label < len(used))]] = 1
        return np.flatnonzero(used == 0)[::-1][:count].astype(np.uint16)


class Grouped(Protocol):
    """Images that belong to groups, such as those of one scene."""

    def __len__(self) -> int:
        """Count the images."""
        ...

    def group(self, index: int) -> str:
        """Return what the image belongs to: images of one group never straddle a split."""
        ...


class InstanceDataset(Grouped, Protocol):
    """What training and evaluation ask of a data set."""

    name: str
    path: Path  # opens it again

    def read(self, index: int) -> LabelledImage:
        """Read one image; raises `DatasetError` or `InputError` that names the broken file."""
        ...

    def image_path(self, index: int) -> Path:
        """Return the image's file."""
        ...

    def annotation(self, index: int) -> bytes:
        """Return what the instances are read from, as stored: other bytes, other instances."""
        ...


def resize_layers(layers: NDArray[np.uint16], height: int, width: int) -> NDArray[np.uint16]:
    """Resize labels `[L, H, W]`; every pixel keeps the label of one instance."""
    # Not INTER_NEAREST, which takes each new pixel's upper left corner: half a pixel off the image.
    size, nearest = (width, height), cv2.INTER_NEAREST_EXACT
    return np.stack([cv2.resize(layer, size, interpolation=nearest) for layer in layers])


def stacking_order(masks: list[NDArray[np.bool_]]) -> list[int]:
    """Return the places of the masks that are not empty, large masks first.

    `stack_layers` numbers them so, from 1 on.
    """
    areas = [int(np.count_nonzero(mask)) for mask in masks]
    return sorted((i for i, area in enumerate(areas) if area), key=lambda i: -areas[i])


def stack_layers(masks: list[NDArray[np.bool_]], size: tuple[int, int]) -> NDArray[np.uint16]:
    """Put masks that may overlap on as few label maps as a first fit needs, large masks first.

    They are `bool [H, W]` of this size; empty ones are left out. The maps are `uint16 [L, H, W]`,
    one at least.
    """
    layers = [np.zeros(size, np.uint16)]
    for label, place in enumerate(stacking_order(masks), start=1):
        mask = masks[place]
        layer = next((layer for layer in layers if not layer[mask].any()), None)
        if layer is None:
            layer = np.zeros(size, np.uint16)
            layers.append(layer)
        layer[mask] = label
    return np.stack(layers)
