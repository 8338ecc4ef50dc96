"""COCO's annotations, in one file for all photographs, and SA-1B's, in one for each."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.data.labelled_images import (
    LabelledImage,
    read_groups,
    read_rgb,
    stack_layers,
)
from aopsam_ros.errors import DatasetError


class CocoFile:
    """A COCO instance annotation file; images lie beside it, in `images/` or in a given split."""

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self.path = path
        try:
            content = json.loads(path.read_text())
            self.images = sorted(content["images"], key=lambda image: str(image["file_name"]))
            annotations = content["annotations"]
        except (ValueError, KeyError, TypeError) as error:
            raise DatasetError(f"{path}: not a COCO annotation file ({error})") from error
        self.by_image: dict[int, list[dict]] = {}
        for annotation in annotations:
            if not annotation.get("iscrowd") and annotation.get("segmentation"):
                self.by_image.setdefault(annotation["image_id"], []).append(annotation)
        self.images = [image for image in self.images if image["id"] in self.by_image]
        if not self.images:
            raise DatasetError(f"{path}: no image has a segmentation")

    def __len__(self) -> int:
        return len(self.images)

    def group(self, index: int) -> str:
        """See `InstanceDataset`."""
        return str(self.images[index]["file_name"])

    def picture(self, index: int) -> Path:
        """See `InstanceDataset`."""
        return self._find(str(self.images[index]["file_name"]))

    def annotation(self, index: int) -> bytes:
        """See `InstanceDataset`."""
        return json.dumps(self.by_image[self.images[index]["id"]], sort_keys=True).encode()

    def read(self, index: int) -> LabelledImage:
        """See `InstanceDataset`."""
        image = self.images[index]
        rgb = read_rgb(self.picture(index))
        size = (rgb.shape[0], rgb.shape[1])
        masks = [_coco_mask(a["segmentation"], size, self.path) for a in self.by_image[image["id"]]]
        return LabelledImage(Path(image["file_name"]).stem, rgb, stack_layers(masks, size))

    def _find(self, name: str) -> Path:
        folder = self.path.parent
        for base in (folder, folder / "images", folder.parent, folder.parent / "images"):
            if (base / name).is_file():
                return base / name
        raise DatasetError(f"{self.path}: image {name} is not beside it nor in images/")


class Sa1bFolder:
    """SA-1B: `sa_N.jpg` with `sa_N.json` (COCO run lengths and the points that prompted them)."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.path = path
        self.files = sorted(f for f in path.glob("*.jpg") if f.with_suffix(".json").is_file())
        if not self.files:
            raise DatasetError(f"{path}: no *.jpg with a *.json of the same name")
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
        return self.files[index].with_suffix(".json").read_bytes()

    def read(self, index: int) -> LabelledImage:
        """See `InstanceDataset`."""
        file = self.files[index]
        rgb = read_rgb(file)
        size = (rgb.shape[0], rgb.shape[1])
        try:
            annotations = json.loads(self.annotation(index))["annotations"]
            masks = [_coco_mask(a["segmentation"], size, file) for a in annotations]
            points = _points(annotations)
        except (ValueError, KeyError, TypeError) as error:
            raise DatasetError(f"{file.with_suffix('.json')}: not SA-1B ({error})") from error
        return LabelledImage(file.stem, rgb, stack_layers(masks, size), points)


def _points(annotations: list[dict]) -> NDArray[np.float32] | None:
    """Collect `point_coords` of all annotations, `[N, 2]`; None where there are none."""
    points = [point for a in annotations for point in a.get("point_coords", [])]
    if not points:
        return None
    coords = np.asarray(points, np.float32)
    if coords.shape != (len(points), 2) or not np.isfinite(coords).all():
        raise ValueError("point_coords must be pairs of finite numbers")
    return coords


def _coco_mask(segmentation: object, size: tuple[int, int], source: Path) -> NDArray[np.bool_]:
    """Decode COCO polygons or run lengths to `bool [H, W]`."""
    from pycocotools import mask as coco  # only these two formats need it

    try:
        if isinstance(segmentation, list):
            rle = coco.merge(coco.frPyObjects(segmentation, *size))
        elif isinstance(segmentation, dict) and isinstance(segmentation["counts"], list):
            rle = coco.frPyObjects(segmentation, *size)
        else:
            rle = segmentation
        mask = coco.decode(rle).astype(bool)
    except Exception as error:  # pycocotools raises bare Exception for malformed input
        raise DatasetError(f"{source}: malformed segmentation ({error})") from error
    if mask.shape != size:
        raise DatasetError(f"{source}: a mask of {mask.shape} for an image of {size}")
    return mask
