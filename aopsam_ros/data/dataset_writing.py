"""Data sets written from segmentations, for labelling tools and training.

Every format has the images beside their labels. `stream` is given for frames of one sequence, where
a mask's id is that of its object: `manifest.csv` then says which frames a split must not part.
"""

import csv
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.data.dataset_formats import folder_name
from aopsam_ros.data.frames import NEIGHBOURS
from aopsam_ros.errors import DatasetError
from aopsam_ros.images.files import write_bytes, write_rgb
from aopsam_ros.masks.formats import to_label_map, to_polygons
from aopsam_ros.masks.rle import decode_full
from aopsam_ros.results import InstanceMask, Segmentation

UNNAMED = "object"  # category of masks without a label
_MAX_LABEL = 2**16 - 1  # of a label map in 16 bits


class DatasetWriter:
    """Writes images and their labels into a folder; one instance, closed once, makes a data set."""

    images = "images"  # where in the folder the images are

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.categories: list[str] = []  # in the order in which they were met
        self._frames: Counter[str] = Counter()  # of each stream

    def image_path(self, name: str) -> Path:
        """Return where the image of a name is written."""
        return self.folder / self.images / f"{name}.jpg"

    def add(self, name: str, rgb: NDArray[np.uint8], found: Segmentation, stream: str = "") -> None:
        """Write one image, uint8 RGB `[H, W, 3]`, with its labels.

        Raises:
            OSError: if a file cannot be written.
            DatasetError: if the format cannot hold the labels.
        """
        file = self.image_path(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_rgb(file, rgb)
        try:
            self._write_labels(name, found, stream)
        except (DatasetError, OSError):
            file.unlink()  # an image without labels would spoil the whole set
            raise
        if stream:
            self._write_group(name, f"{stream}_part_{self._frames[stream] // NEIGHBOURS:04}")
            self._frames[stream] += 1

    def _write_group(self, name: str, group: str) -> None:
        """Append to the manifest; of several rows of one frame the last holds."""
        manifest = self.folder / "manifest.csv"
        with manifest.open("a", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file, lineterminator="\n")
            if not file.tell():
                writer.writerow(("set", "id", "group"))
            writer.writerow((folder_name(self.folder), name, group))

    def _write_labels(self, name: str, found: Segmentation, stream: str) -> None:
        raise NotImplementedError

    def _category(self, mask: InstanceMask) -> int:
        """Return the index of a mask's category."""
        label = mask.label or UNNAMED
        if label not in self.categories:
            self.categories.append(label)
        return self.categories.index(label)

    def close(self) -> None:
        """Write what belongs to all images."""


class CocoWriter(DatasetWriter):
    """COCO: `images/` and `annotations/instances_default.json`, where CVAT and Datumaro look.

    `score` is the mask's; `track_id` that of its object in the sequence `video`. Annotations are
    written as they come, so that memory does not grow with them.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._images: list[dict[str, Any]] = []
        self._count = 0
        self._file = folder / "annotations" / "instances_default.json"
        self._part = self._file.with_suffix(".part")
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._stream: TextIO = self._part.open("w", encoding="utf-8")
        self._stream.write('{"annotations": [')

    def _write_labels(self, name: str, found: Segmentation, stream: str) -> None:
        image = {"id": len(self._images) + 1, "file_name": self.image_path(name).name}
        image |= {"width": found.width, "height": found.height}
        self._images.append(image | ({"video": stream} if stream else {}))
        for mask in found.masks:
            annotation = _annotation(mask, found.height, found.width)
            annotation |= {"id": self._count + 1, "image_id": image["id"], "iscrowd": 0}
            annotation |= {"category_id": self._category(mask) + 1, "score": round(mask.score, 4)}
            annotation |= {"track_id": mask.id} if stream else {}
            self._stream.write(",\n"[not self._count :] + json.dumps(annotation))
            self._count += 1

    def close(self) -> None:
        """Write the images and categories, and give the file its name.

        Without an image nothing is written: a file that was there stays as it is.
        """
        if not self._images:
            self._stream.close()
            self._part.unlink()
            return
        categories = [{"id": i, "name": name} for i, name in enumerate(self.categories, 1)]
        rest = json.dumps({"images": self._images, "categories": categories})
        with self._stream:
            self._stream.write(f"],\n{rest[1:]}\n")
        self._part.replace(self._file)


class YoloWriter(DatasetWriter):
    """YOLO's segmentation: `images/`, `labels/` and `data.yaml`.

    A mask is the outline of its largest part: the format has neither parts nor holes.
    """

    def _write_labels(self, name: str, found: Segmentation, stream: str) -> None:  # noqa: ARG002
        size = np.array([found.width, found.height])
        lines = []
        for mask in found.masks:
            outline = next(iter(to_polygons(mask)), np.zeros((0, 2)))
            if len(outline) >= 3:  # a thinner one has no area
                corners = ((outline + 0.5) / size).ravel()
                values = " ".join(f"{value:.6f}" for value in corners)
                lines.append(f"{self._category(mask)} {values}\n")
        file = self.folder / "labels" / f"{name}.txt"
        file.parent.mkdir(exist_ok=True)
        write_bytes(file, "".join(lines).encode())

    def close(self) -> None:
        """Write `data.yaml`; training and validation are the same until somebody splits them."""
        names = "".join(f"  {i}: {json.dumps(name)}\n" for i, name in enumerate(self.categories))
        if names:
            text = f"train: images\nval: images\nnames:\n{names}"
            write_bytes(self.folder / "data.yaml", text.encode())


class LabelMapWriter(DatasetWriter):
    """`images/` and `masks/`, 16-bit PNG: the id of the smallest mask at each pixel, 0 for none."""

    def _write_labels(self, name: str, found: Segmentation, stream: str) -> None:  # noqa: ARG002
        labels = to_label_map(found.masks, found.height, found.width)
        if labels.max(initial=0) > _MAX_LABEL:
            raise DatasetError(f"{name}: a label map has ids up to {_MAX_LABEL}")
        _, content = cv2.imencode(".png", labels.astype(np.uint16))
        file = self.folder / "masks" / f"{name}.png"
        file.parent.mkdir(exist_ok=True)
        write_bytes(file, content.tobytes())


class Sa1bWriter(DatasetWriter):
    """SA-1B: each image with a JSON file of its name beside it.

    `point_coords` are left out: points of a grid lie anywhere in their masks. Without them,
    training takes each mask's innermost point.
    """

    images = "."

    def _write_labels(self, name: str, found: Segmentation, stream: str) -> None:  # noqa: ARG002
        height, width = found.height, found.width
        annotations = [
            _annotation(mask, height, width)
            | {
                "id": mask.id,
                "predicted_iou": round(mask.predicted_iou, 4),
                "stability_score": round(mask.stability_score, 4),
                "score": round(mask.score, 4),
            }
            for mask in found.masks
        ]
        content = {
            "image": {"file_name": f"{name}.jpg", "height": height, "width": width},
            "annotations": annotations,
            "model": found.model,
            "prompt_source": found.prompt_source,
        }
        write_bytes(self.folder / f"{name}.json", json.dumps(content).encode())


WRITERS: dict[str, type[DatasetWriter]] = {
    "coco": CocoWriter,
    "yolo": YoloWriter,
    "labelmap": LabelMapWriter,
    "sa1b": Sa1bWriter,
}
WITH_PYCOCOTOOLS: Sequence[str] = ("coco", "sa1b")


def _annotation(mask: InstanceMask, height: int, width: int) -> dict[str, Any]:
    """Return what COCO and SA-1B share: run lengths as pycocotools packs them, box and area."""
    from pycocotools import mask as coco

    runs = coco.encode(np.asfortranarray(decode_full(mask, height, width).astype(np.uint8)))
    return {
        "segmentation": {"size": [height, width], "counts": runs["counts"].decode("ascii")},
        "bbox": list(mask.bbox),
        "area": mask.area,
    }
