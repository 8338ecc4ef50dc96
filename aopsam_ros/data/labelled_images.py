"""What every data set gives: photographs with their instances."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.errors import DatasetError
from aopsam_ros.images.files import IMAGE_SUFFIXES as IMAGE_SUFFIXES


@dataclass(frozen=True)
class LabelledImage:
    """One photograph and its instances.

    Attributes:
        name: Unique within the data set.
        rgb: `uint8 [H, W, 3]`.
        layers: `uint16 [L, H, W]`; 0 is unlabelled, every other value is one instance, unique over
            all layers. Instances that overlap lie on different layers.
        points: Annotated prompt points `float32 [N, 2]` (x, y in pixels) where the data has them.
    """

    name: str
    rgb: NDArray[np.uint8]
    layers: NDArray[np.uint16]
    points: NDArray[np.float32] | None = None

    def instances(self) -> list[tuple[int, int]]:
        """List (layer, label) of every instance."""
        return [
            (index, int(label))
            for index, layer in enumerate(self.layers)
            for label in np.unique(layer)
            if label
        ]


class InstanceDataset(Protocol):
    """What training and evaluation ask of a data set."""

    name: str
    path: Path  # opens it again

    def __len__(self) -> int:
        """Count the images."""
        ...

    def read(self, index: int) -> LabelledImage:
        """Read one image; raises `DatasetError` naming the file that cannot be read."""
        ...

    def group(self, index: int) -> str:
        """Name what the image belongs to: images of one group never straddle a split."""
        ...

    def picture(self, index: int) -> Path:
        """Name the image's file."""
        ...

    def annotation(self, index: int) -> bytes:
        """Return what the instances are read from, as stored: other bytes, other instances."""
        ...


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Read an image file as `uint8 [H, W, 3]` RGB; raises `DatasetError`."""
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if bgr is None:
        raise DatasetError(f"{path}: not a readable image")
    return np.ascontiguousarray(bgr[:, :, ::-1])


def read_groups(path: Path) -> dict[str, str]:
    """Read id → group from a `manifest.csv` above the folder, where one lists this set."""
    for folder in (path, path.parent, path.parent.parent):
        manifest = folder / "manifest.csv"
        if manifest.is_file():
            with manifest.open(newline="") as file:
                rows = [row for row in csv.DictReader(file) if row.get("set") == path.name]
            return {row["id"]: row.get("group") or row["id"] for row in rows}
    return {}


def stack_layers(masks: list[NDArray[np.bool_]], size: tuple[int, int]) -> NDArray[np.uint16]:
    """Put masks that may overlap on as few label maps as a first fit needs, large masks first.

    Args:
        masks: `bool [H, W]` each.
        size: H, W.

    Returns:
        `uint16 [L, H, W]`, L >= 1; empty masks are left out.
    """
    layers = [np.zeros(size, np.uint16)]
    ordered = sorted((mask for mask in masks if mask.any()), key=lambda mask: -int(mask.sum()))
    for label, mask in enumerate(ordered, start=1):
        layer = next((layer for layer in layers if not layer[mask].any()), None)
        if layer is None:
            layer = np.zeros(size, np.uint16)
            layers.append(layer)
        layer[mask] = label
    return np.stack(layers)
