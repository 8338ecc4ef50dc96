"""The formats of data sets: folders of label maps, COCO's annotations, SA-1B's."""

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path, PurePath

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.data.class_names import VOC_CLASSES, ClassNames, voc_indices
from aopsam_ros.data.coco_masks import decode_mask
from aopsam_ros.data.labelled_images import LabelledImage, stack_layers, stacking_order
from aopsam_ros.errors import DatasetError
from aopsam_ros.images.files import IMAGE_SUFFIXES, opencv_name, read_bytes, read_rgb


class _ImageFolder:
    """What data sets with files of labels for each image have in common."""

    def __init__(self, path: Path, files: Sequence[Path]) -> None:
        self.name, self.path, self.files = folder_name(path), path, files
        self._groups = _read_groups(path)

    def __len__(self) -> int:
        return len(self.files)

    def group(self, index: int) -> str:
        """See `InstanceDataset`."""
        stem = self.files[index].stem
        return self._groups.get(stem, stem)

    def image_path(self, index: int) -> Path:
        """See `InstanceDataset`."""
        return self.files[index]

    def annotation(self, index: int) -> bytes:
        """See `InstanceDataset`."""
        return b"".join(read_bytes(file) for file in self._label_files(self.files[index]))

    def read(self, index: int) -> LabelledImage:
        """See `InstanceDataset`."""
        file = self.files[index]
        rgb, labels = read_rgb(file), self._label_files(file)
        image = self._read(file, rgb, *labels)
        if image.layers.shape[1:] != rgb.shape[:2]:
            raise DatasetError(
                f"{labels[0]}: {image.layers.shape[1:]} but the image is {rgb.shape[:2]}"
            )
        return image

    def _label_files(self, file: Path) -> tuple[Path, ...]:
        """Return an image's files of labels."""
        raise NotImplementedError

    def _read(self, file: Path, rgb: NDArray[np.uint8], *labels: Path) -> LabelledImage:
        """Read an image's labels."""
        raise NotImplementedError


class LabelMapFolder(_ImageFolder):
    """`images/<id>.jpg` with `masks/<id>.png`, a 16-bit map of instance labels."""

    def __init__(self, path: Path) -> None:
        files = sorted(f for f in (path / "images").iterdir() if f.suffix.lower() in IMAGE_SUFFIXES)
        if not files:
            raise DatasetError(f"{path}: no image in images/ ({', '.join(IMAGE_SUFFIXES)})")
        super().__init__(path, files)
        self._names = ClassNames(path)

    def _label_files(self, file: Path) -> tuple[Path, ...]:
        return (self.path / "masks" / f"{file.stem}.png",)

    def _read(self, file: Path, rgb: NDArray[np.uint8], *labels: Path) -> LabelledImage:
        if not labels[0].exists():
            raise DatasetError(f"{labels[0]}: not there: an image in images/ has no labels")
        label_map = cv2.imread(opencv_name(labels[0]), cv2.IMREAD_UNCHANGED)
        if label_map is None or label_map.ndim != 2:
            raise DatasetError(f"{labels[0]}: not a readable one-channel label map")
        layers, classes = label_map[None].astype(np.uint16), self._names.of(file.stem)
        return LabelledImage(file.stem, rgb, layers, classes=classes)


class BsdsFolder(_ImageFolder):
    """BSDS500: `images/<id>.jpg` with `groundTruth/<id>.mat`, the regions of several annotators."""

    def __init__(self, path: Path) -> None:
        self.path = path
        files = [f for f in (path / "images").iterdir() if self._label_files(f)[0].is_file()]
        if not files:
            raise DatasetError(f"{path}: no image has a .mat file in groundTruth/")
        super().__init__(path, sorted(files))

    def _label_files(self, file: Path) -> tuple[Path, ...]:
        return (self.path / "groundTruth" / f"{file.stem}.mat",)

    def _read(self, file: Path, rgb: NDArray[np.uint8], *labels: Path) -> LabelledImage:
        from scipy.io import loadmat  # for this data set alone

        try:
            annotators = loadmat(str(labels[0]))["groundTruth"][0]
            layers = np.stack([one["Segmentation"][0, 0] for one in annotators]).astype(np.int64)
        except Exception as error:  # damaged bytes make scipy and zlib raise almost anything
            raise DatasetError(f"{labels[0]}: not BSDS500's ground truth: {error}") from error
        before = np.concatenate(([0], np.cumsum(layers.max(axis=(1, 2)))[:-1]))
        unique = (layers + before[:, None, None]).astype(np.uint16)
        return LabelledImage(file.stem, rgb, unique, is_by_annotator=True)


class VocFolder(_ImageFolder):
    """PASCAL VOC: `JPEGImages/`, `SegmentationObject/` and `SegmentationClass/` (PNG).

    Only images with both are read. A file `class_names.txt`, a name a line, background first, takes
    the place of VOC's own classes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        images = (path / "JPEGImages").iterdir()
        files = sorted(f for f in images if all(label.is_file() for label in self._label_files(f)))
        if not files:
            raise DatasetError(f"{path}: no image has both its instances and their classes")
        super().__init__(path, files)
        names = path / "class_names.txt"
        self._names = _read_names(names) if names.is_file() else VOC_CLASSES

    def _label_files(self, file: Path) -> tuple[Path, ...]:
        folders = ("SegmentationObject", "SegmentationClass")
        return tuple(self.path / folder / f"{file.stem}.png" for folder in folders)

    def _read(self, file: Path, rgb: NDArray[np.uint8], *labels: Path) -> LabelledImage:
        instances, kinds = map(_read_indices, labels)
        if instances.shape != kinds.shape:
            raise DatasetError(f"{labels[1]}: not of the size of {labels[0]}")
        classes = {}
        for label in np.unique(instances[instances > 0]).tolist():
            kind = int(np.bincount(kinds[instances == label]).argmax())
            if 0 < kind < len(self._names):
                classes[label] = self._names[kind].strip()
        return LabelledImage(file.stem, rgb, instances[None], classes=classes)


def _read_names(file: Path) -> tuple[str, ...]:
    try:
        return tuple(read_bytes(file).decode("utf-8").split("\n"))
    except UnicodeDecodeError as error:
        raise DatasetError(f"{file}: not text in UTF-8 ({error})") from error


def _read_indices(file: Path) -> NDArray[np.uint16]:
    image = cv2.imread(opencv_name(file), cv2.IMREAD_UNCHANGED)
    if image is None or image.dtype != np.uint8:
        raise DatasetError(f"{file}: not an image that can be read")
    try:
        return voc_indices(image[..., :3] if image.ndim == 3 else image)
    except ValueError as error:
        raise DatasetError(f"{file}: {error}") from error


class Sa1bFolder(_ImageFolder):
    """SA-1B: `sa_N.jpg` with `sa_N.json` (COCO run lengths and the points that prompted them)."""

    def __init__(self, path: Path) -> None:
        files = sorted(f for f in path.glob("*.jpg") if f.with_suffix(".json").is_file())
        if not files:
            raise DatasetError(f"{path}: no *.jpg with a *.json of the same name")
        super().__init__(path, files)

    def _label_files(self, file: Path) -> tuple[Path, ...]:
        return (file.with_suffix(".json"),)

    def _read(self, file: Path, rgb: NDArray[np.uint8], *labels: Path) -> LabelledImage:
        return read_sa1b(str(file.with_suffix("")), rgb, read_bytes(labels[0]))


def read_sa1b(path: str, rgb: NDArray[np.uint8], annotation: bytes) -> LabelledImage:
    """Read an image's labels from SA-1B's JSON; `path` is that of both, without their suffixes.

    Raises:
        DatasetError: if it is not SA-1B's.
    """
    size = (rgb.shape[0], rgb.shape[1])
    try:
        annotations = json.loads(annotation)["annotations"]
        masks = [decode_mask(a["segmentation"], size, path) for a in annotations]
        points = _points(annotations)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DatasetError(f"{path}.json: not SA-1B ({error})") from error
    return LabelledImage(PurePath(path).name, rgb, stack_layers(masks, size), points)


class CocoFile:
    """A COCO instance annotation file; images lie beside it, in `images/` or in a given split.

    `folder` names the data set, where it was opened as a folder.
    """

    def __init__(self, file: Path, folder: Path | None = None) -> None:
        self.name, self.path = folder_name(folder) if folder else file.stem, folder or file
        self._file = file
        self._groups = _read_groups(
            file.parent.parent if file.parent.name == "annotations" else file.parent
        )
        text = read_bytes(file)
        try:
            content = json.loads(text)
            images = sorted(content["images"], key=lambda image: str(image["file_name"]))
            self._names = {c["id"]: str(c["name"]) for c in content.get("categories", [])}
            self.by_image: dict[int, list[dict]] = {}
            for annotation in content["annotations"]:
                if not annotation.get("iscrowd") and annotation.get("segmentation"):
                    hash(annotation.get("category_id"))  # what names are looked up by
                    self.by_image.setdefault(annotation["image_id"], []).append(annotation)
            self.images = [image for image in images if image["id"] in self.by_image]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DatasetError(f"{file}: not a COCO annotation file ({error})") from error
        if not self.images:
            raise DatasetError(f"{file}: no image has a segmentation")

    def __len__(self) -> int:
        return len(self.images)

    def group(self, index: int) -> str:
        """See `InstanceDataset`."""
        image = self.images[index]
        name = str(image["file_name"])
        return self._groups.get(PurePath(name).stem) or str(image.get("video", name))

    def image_path(self, index: int) -> Path:
        """See `InstanceDataset`."""
        name, folder = str(self.images[index]["file_name"]), self._file.parent
        for base in (folder, folder / "images", folder.parent, folder.parent / "images"):
            if (base / name).is_file():
                return base / name
        raise DatasetError(f"{self._file}: image {name} is not beside it nor in images/")

    def annotation(self, index: int) -> bytes:
        """See `InstanceDataset`."""
        return json.dumps(self.by_image[self.images[index]["id"]], sort_keys=True).encode()

    def read(self, index: int) -> LabelledImage:
        """See `InstanceDataset`."""
        file, annotations = self.image_path(index), self.by_image[self.images[index]["id"]]
        rgb = read_rgb(file)
        size = (rgb.shape[0], rgb.shape[1])
        declared = tuple(self.images[index].get(side) for side in ("height", "width"))
        if None not in declared and declared != size:  # a polygon fits any, in the wrong place
            raise DatasetError(f"{file}: {size}, but {self._file} says {declared}")
        masks = [decode_mask(a["segmentation"], size, self._file) for a in annotations]
        names = [self._names.get(a.get("category_id"), "") for a in annotations]
        order = stacking_order(masks)
        classes = {n: names[place] for n, place in enumerate(order, start=1) if names[place]}
        return LabelledImage(file.stem, rgb, stack_layers(masks, size), classes=classes)


def folder_name(path: Path) -> str:
    """Return the name of a data set's folder, of "." as well."""
    return Path(os.path.abspath(path)).name


def _read_groups(path: Path) -> dict[str, str]:
    """Read id → group from a `manifest.csv` above the folder, where one lists this set.

    Raises:
        DatasetError: if it cannot be read, or has no ids.
    """
    name = folder_name(path)
    for folder in (path, path.parent, path.parent.parent):
        manifest = folder / "manifest.csv"
        if manifest.is_file():
            try:
                with manifest.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
                    rows = [row for row in csv.DictReader(file) if row.get("set") == name]
                return {row["id"]: row.get("group") or row["id"] for row in rows}
            except (OSError, ValueError, KeyError, csv.Error) as error:
                raise DatasetError(
                    f"{manifest}: not a table of set, id and group ({error})"
                ) from error
    return {}


def _points(annotations: list[dict]) -> NDArray[np.float32] | None:
    """Collect `point_coords` of all annotations, `[N, 2]`; None where there are none."""
    points = [point for a in annotations for point in a.get("point_coords", [])]
    if not points:
        return None
    coords = np.asarray(points, np.float32)
    if coords.shape != (len(points), 2) or not np.isfinite(coords).all():
        raise ValueError("point_coords must be pairs of finite numbers")
    return coords
