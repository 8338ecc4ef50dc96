"""A data engine, as SAM's: the model's surest masks where images are unlabelled are labels."""

import csv
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.data.dataset_formats import folder_name
from aopsam_ros.data.dataset_writing import Sa1bWriter
from aopsam_ros.data.labelled_images import InstanceDataset, resize_layers
from aopsam_ros.errors import DatasetError
from aopsam_ros.geometry import shrink
from aopsam_ros.images.files import read_bytes
from aopsam_ros.masks.iou import crop_of, pairwise_iou
from aopsam_ros.masks.rle import decode_full, encode_full
from aopsam_ros.results import InstanceMask, Segmentation
from aopsam_ros.segmentation.segmenter import Segmenter
from aopsam_ros.training.prepared_images import content_key

# Many prompts, each with its best mask; what is not sure is left out below.
SETTINGS: dict[str, object] = {
    "asf.sampling": "fill",
    "asf.confidence_threshold": 0.06,
    "asf.smoothing_sigma": 1.0,
    "asf.extent_overlap": 0.8,
    "asf.max_prompts": 100,
    "mask.candidates": "best",
    "mask.score_threshold": 0.55,
    "mask.stability_threshold": 0.5,
    "mask.overlap_threshold": 0.7,
}
AGREEMENT = 0.85  # IoU with a mask of the image mirrored, and with one of it smaller
SMALLER = 0.7
COPY = 0.5  # IoU with a surer mask
LEAST_AREA, MOST_AREA = 0.002, 0.6  # of the image
MOST_LABELLED = 0.3  # of the mask
MOST_VIEWS = 3  # of an image
COLUMNS = ("set", "id", "group", "source", "new")  # of the manifest

FullMask = NDArray[np.bool_]  # `[H, W]`


def choose_masks(
    masks: Sequence[FullMask],
    scores: Sequence[float],
    views: Sequence[Callable[[], Sequence[FullMask]]],
    labelled: FullMask,
) -> dict[int, FullMask]:
    """Choose masks of unlabelled things that every view shows again, the surest of near copies.

    Args:
        masks: of the image.
        scores: of the masks.
        views: give the masks found in the image seen differently, in its own pixels; called only
            while there is a mask left.
        labelled: pixels of the image's own instances; what is chosen is clipped to the others.

    Returns:
        The masks by their places, the surest first.
    """
    crops = [crop_of(mask) for mask in masks]
    left = [place for place, mask in enumerate(masks) if _is_unlabelled(mask, labelled)]
    for view in views:
        again = [crop_of(mask) for mask in view()] if left else []
        iou = pairwise_iou([crops[place] for place in left], again, AGREEMENT)
        left = [left[row] for row in np.flatnonzero(iou.max(1, initial=0.0) > AGREEMENT)]
    chosen: dict[int, FullMask] = {}
    for place in sorted(left, key=lambda place: -scores[place]):
        clipped = masks[place] & ~labelled
        surer = [crop_of(mask) for mask in chosen.values()]
        if pairwise_iou([crop_of(clipped)], surer, COPY).max(initial=0.0) <= COPY:
            chosen[place] = clipped
    return chosen


def _is_unlabelled(mask: FullMask, labelled: FullMask) -> bool:
    area = np.count_nonzero(mask)
    has_size = LEAST_AREA * mask.size <= area <= MOST_AREA * mask.size
    return bool(has_size and np.count_nonzero(mask & labelled) <= MOST_LABELLED * area)


def label_image(
    segmenter: Segmenter,
    rgb: NDArray[np.uint8],
    layers: NDArray[np.uint16],
    views: int = MOST_VIEWS,
) -> tuple[Segmentation, int]:
    """Find new masks of an image, uint8 `[H, W, 3]`, with its own instances in layers `[L, H, W]`.

    Of more `views` than one, a mask has to be found again in the image mirrored, and smaller.

    Returns:
        The image's own masks, with scores of 1, and the new ones; and how many are new.
    """
    height, width = rgb.shape[:2]
    size = round(height / SMALLER), round(width / SMALLER)

    def masks_of(image: NDArray[np.uint8]) -> list[FullMask]:
        found = segmenter.segment(image).masks
        return [decode_full(mask, *image.shape[:2]) for mask in found]

    def mirrored() -> list[FullMask]:
        return [mask[:, ::-1] for mask in masks_of(np.ascontiguousarray(rgb[:, ::-1]))]

    def smaller() -> list[FullMask]:
        # In a corner of a canvas that the encoder sees as a whole.
        canvas = np.empty((*size, 3), np.uint8)
        canvas[:] = np.rint(segmenter.bundle.mean)  # as images are padded
        canvas[:height, :width] = rgb
        return [mask[:height, :width] for mask in masks_of(canvas)]

    labelled = np.asarray(layers.any(0))
    found = segmenter.segment(rgb)
    masks = [decode_full(mask, height, width) for mask in found.masks]
    scores = [mask.score for mask in found.masks]
    chosen = choose_masks(masks, scores, (mirrored, smaller)[: views - 1], labelled)
    own = [layer == label for layer in layers for label in np.unique(layer) if label]
    labels = [_instance(mask) for mask in own]
    labels += [_instance(mask, found.masks[place]) for place, mask in chosen.items()]
    numbered = tuple(dataclasses.replace(m, id=number) for number, m in enumerate(labels, 1))
    return dataclasses.replace(found, masks=numbered), len(chosen)


_OWN = InstanceMask(
    id=0,
    bbox=(0, 0, 0, 0),
    area=0,
    predicted_iou=1.0,
    stability_score=1.0,
    prompt=(0.0, 0.0),
    prompt_confidence=1.0,
    label="",
    counts=np.zeros(0, np.uint32),
    score=1.0,
)


def _instance(pixels: FullMask, found: InstanceMask = _OWN) -> InstanceMask:
    box, counts = encode_full(pixels)
    area = int(np.count_nonzero(pixels))
    return dataclasses.replace(found, bbox=box, area=area, counts=counts)


class DataEngine:
    """Writes images with their own labels and new ones, as a data set in SA-1B's format.

    An image without a new mask is left out. The manifest has a row for each that was looked at,
    and none of these is looked at again: its group, its data set, and how many masks are new.

    Raises:
        DatasetError: if the folder holds anything else, such as another data set.
    """

    def __init__(self, segmenter: Segmenter, folder: Path, views: int = MOST_VIEWS) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.segmenter, self.writer, self._views = segmenter, Sa1bWriter(folder), views
        self.manifest = folder / "manifest.csv"
        self._begin()
        self.done = {row["id"] for row in self.rows()}

    def _begin(self) -> None:
        """Write the manifest's first line, where nothing is there yet."""
        others = [file for file in self.writer.folder.iterdir() if not file.name.startswith(".")]
        if others and not self.manifest.is_file():
            raise DatasetError(f"{self.writer.folder}: holds other files: choose a new folder")
        with self._open("a") as file:
            if not file.tell():  # also where a full disk had no room for it before
                csv.writer(file, lineterminator="\n").writerow(COLUMNS)
        with self._open("r") as file:
            if next(csv.reader(file), None) != list(COLUMNS):
                reason = "the manifest of another data set: choose a new folder"
                raise DatasetError(f"{self.manifest}: {reason}")

    def _open(self, mode: str) -> IO[str]:
        return self.manifest.open(mode, newline="", encoding="utf-8", errors="surrogateescape")

    def rows(self) -> Iterator[dict[str, str]]:
        """Read the manifest."""
        with self._open("r") as file:
            yield from csv.DictReader(file)

    def add(self, dataset: InstanceDataset, index: int) -> None:
        """Label an image unless it was looked at before.

        Raises:
            AopsamError: if it cannot be read.
        """
        # By content: data sets of other runs may have the same name, and sets grow.
        path = dataset.image_path(index)
        name = f"{dataset.name}-{path.stem}-{content_key(read_bytes(path))[:8]}"
        if name in self.done:
            return
        image = dataset.read(index)
        rgb = shrink(image.rgb, self.segmenter.bundle.image_size)
        layers = resize_layers(image.layers, *rgb.shape[:2])
        labels, new = label_image(self.segmenter, rgb, layers, self._views)
        if new:
            self.writer.add(name, rgb, labels)
        # Last: an image that has a row is done.
        row = folder_name(self.writer.folder), name, dataset.group(index), dataset.name, str(new)
        with self._open("a") as file:
            csv.writer(file, lineterminator="\n").writerow(row)
        self.done.add(name)
