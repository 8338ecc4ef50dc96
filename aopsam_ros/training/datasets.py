"""Photographs with instance masks: label-map folders, COCO JSON and SA-1B folders."""

from __future__ import annotations

import csv
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.errors import DatasetError
from aopsam_ros.images import IMAGE_SUFFIXES


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


def open_dataset(path: str | Path) -> InstanceDataset:
    """Open a folder or a JSON file as the format that it is.

    Args:
        path: A folder with `images/` and `masks/` (label maps); a COCO JSON file or a folder that
            holds exactly one beside its images; or an SA-1B folder (`*.jpg` beside `*.json`).

    Raises:
        DatasetError: Nothing there looks like one of the three formats.
    """
    path = Path(path)
    if not path.exists():
        raise DatasetError(f"{path}: no such data set")
    if (path / "images").is_dir() and (path / "masks").is_dir():
        return LabelMapFolder(path)
    if path.is_file() and path.suffix == ".json":
        return CocoFile(path)
    if path.is_dir():
        return _open_folder(path)
    raise DatasetError(f"{path}: neither a data folder nor a COCO JSON file")


def _open_folder(path: Path) -> InstanceDataset:
    annotations = sorted(path.glob("*.json")) + sorted(path.glob("annotations/*.json"))
    if any(file.with_suffix(".jpg").exists() for file in annotations):
        return Sa1bFolder(path)
    if len(annotations) == 1:
        return CocoFile(annotations[0])
    raise DatasetError(
        f"{path}: expected images/ and masks/, one COCO JSON file, or SA-1B's *.jpg with *.json; "
        f"found {len(annotations)} JSON files"
    )


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Read an image file as `uint8 [H, W, 3]` RGB; raises `DatasetError`."""
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if bgr is None:
        raise DatasetError(f"{path}: not a readable image")
    return np.ascontiguousarray(bgr[:, :, ::-1])


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
        self._groups = _read_groups(path)

    def __len__(self) -> int:
        return len(self.files)

    def group(self, index: int) -> str:
        """See `InstanceDataset`."""
        stem = self.files[index].stem
        return self._groups.get(stem, stem)

    def read(self, index: int) -> LabelledImage:
        """See `InstanceDataset`."""
        file = self.files[index]
        mask_file = self.path / "masks" / f"{file.stem}.png"
        labels = cv2.imread(str(mask_file), cv2.IMREAD_UNCHANGED)
        if labels is None or labels.ndim != 2:
            raise DatasetError(f"{mask_file}: not a readable one-channel label map")
        rgb = read_rgb(file)
        if labels.shape != rgb.shape[:2]:
            raise DatasetError(f"{mask_file}: {labels.shape} but the image is {rgb.shape[:2]}")
        return LabelledImage(file.stem, rgb, labels[None].astype(np.uint16))


def _read_groups(path: Path) -> dict[str, str]:
    """Read id → group from a `manifest.csv` above the folder, where one lists this set."""
    for folder in (path, path.parent, path.parent.parent):
        manifest = folder / "manifest.csv"
        if manifest.is_file():
            with manifest.open(newline="") as file:
                rows = [row for row in csv.DictReader(file) if row.get("set") == path.name]
            return {row["id"]: row.get("group") or row["id"] for row in rows}
    return {}


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

    def read(self, index: int) -> LabelledImage:
        """See `InstanceDataset`."""
        image = self.images[index]
        rgb = read_rgb(self._find(str(image["file_name"])))
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

    def __len__(self) -> int:
        return len(self.files)

    def group(self, index: int) -> str:
        """See `InstanceDataset`."""
        return self.files[index].stem

    def read(self, index: int) -> LabelledImage:
        """See `InstanceDataset`."""
        file = self.files[index]
        rgb = read_rgb(file)
        size = (rgb.shape[0], rgb.shape[1])
        try:
            annotations = json.loads(file.with_suffix(".json").read_text())["annotations"]
            masks = [_coco_mask(a["segmentation"], size, file) for a in annotations]
            points = [p for a in annotations for p in a.get("point_coords", [])]
        except (ValueError, KeyError, TypeError) as error:
            raise DatasetError(f"{file.with_suffix('.json')}: not SA-1B ({error})") from error
        coords = np.asarray(points, np.float32).reshape(-1, 2) if points else None
        return LabelledImage(file.stem, rgb, stack_layers(masks, size), coords)


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


def split_by_group(dataset: InstanceDataset, fraction: float) -> tuple[list[int], list[int]]:
    """Split into (training, held-out) indices by a hash of the group: stable between runs.

    Args:
        dataset: Any data set.
        fraction: Share of the groups to hold out, 0-1.
    """
    training: list[int] = []
    held: list[int] = []
    for index in range(len(dataset)):
        out = zlib.crc32(dataset.group(index).encode()) % 10_000 < fraction * 10_000
        (held if out else training).append(index)
    return training, held
