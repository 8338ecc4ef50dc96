"""Folders of photographs with one label map each."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from aopsam_ros.data.labelled_images import (
    IMAGE_SUFFIXES,
    LabelledImage,
    read_groups,
    read_rgb,
)
from aopsam_ros.errors import DatasetError


class LabelMapFolder:
    """`images/<id>.jpg` with `masks/<id>.png`, a 16-bit map of instance labels."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.path = path
        self.files = sorted(
            file for file in (path / "images").iterdir() if file.suffix.lower() in IMAGE_SUFFIXES
        )
        if not self.files:
            raise DatasetError(f"{path}: images/ is empty")
        self._groups = read_groups(path)

    def __len__(self) -> int:
        return len(self.files)

    def group(self, index: int) -> str:
        """See `InstanceDataset`."""
        stem = self.files[index].stem
        return self._groups.get(stem, stem)

    def picture(self, index: int) -> Path:
        """See `InstanceDataset`."""
        return self.files[index]

    def annotation(self, index: int) -> bytes:
        """See `InstanceDataset`."""
        return self._mask_file(index).read_bytes()

    def _mask_file(self, index: int) -> Path:
        return self.path / "masks" / f"{self.files[index].stem}.png"

    def read(self, index: int) -> LabelledImage:
        """See `InstanceDataset`."""
        file, mask_file = self.files[index], self._mask_file(index)
        labels = cv2.imread(str(mask_file), cv2.IMREAD_UNCHANGED)
        if labels is None or labels.ndim != 2:
            raise DatasetError(f"{mask_file}: not a readable one-channel label map")
        rgb = read_rgb(file)
        if labels.shape != rgb.shape[:2]:
            raise DatasetError(f"{mask_file}: {labels.shape} but the image is {rgb.shape[:2]}")
        return LabelledImage(file.stem, rgb, labels[None].astype(np.uint16))
