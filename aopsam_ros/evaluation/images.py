"""The images that are measured on: those with a ground-truth mask that counts."""

import sys
import zlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from aopsam_ros.data.labelled_images import InstanceDataset, LabelledImage
from aopsam_ros.errors import DatasetError
from aopsam_ros.evaluation.coco_metrics import OBJECT, CocoMask, compress
from aopsam_ros.masks.iou import crop_of
from aopsam_ros.prompting.box_file import BoxFile
from aopsam_ros.prompting.boxes import Boxes

SMALLEST_SHARE = 0.001  # instances under 0.1 % of the image are not counted
NO_IMAGE = "no image has an instance of at least 0.1 % of its area"


@dataclass(frozen=True)
class EvaluationImage:
    """An image with at least one instance that counts; `ground_truth` bool `[H, W]` each."""

    dataset: InstanceDataset
    index: int
    labelled: LabelledImage
    ground_truth: list[NDArray[np.bool_]]

    @property
    def rgb(self) -> NDArray[np.uint8]:
        """Its pixels, uint8 `[H, W, 3]`."""
        return self.labelled.rgb

    @cached_property
    def key(self) -> str:
        """A name that differs for other pixels or other labels of the same name."""
        content = zlib.crc32(self.labelled.layers.tobytes(), zlib.crc32(self.rgb.tobytes()))
        return f"{self.dataset.name}/{self.labelled.name}/{content:08x}"

    def find_boxes(self, file: BoxFile | None) -> Boxes | None:
        """Return its boxes; None where there is no file.

        Raises:
            InputError: if the file has no entry for it.
        """
        return find_boxes(file, self.dataset, self.index)

    @cached_property
    def run_lengths(self) -> list[CocoMask]:
        """Its ground truth as COCO's run lengths; needs pycocotools."""
        return [(OBJECT, compress(crop_of(mask), *mask.shape), 1.0) for mask in self.ground_truth]


def find_boxes(file: BoxFile | None, dataset: InstanceDataset, index: int) -> Boxes | None:
    """Return an image's boxes, by its name after its set's or any of its folders; None: no file.

    Raises:
        InputError: if the file has no entry for it.
    """
    if file is None:
        return None
    image = dataset.image_path(index).absolute()
    return file.find(image.name, [dataset.name, *image.parts[:-1]])


def instance_masks(
    layers: NDArray[np.uint16], smallest_share: float = SMALLEST_SHARE
) -> list[NDArray[np.bool_]]:
    """List the instances of label layers `[L, H, W]` that cover at least a share of the image."""
    least = smallest_share * layers.shape[1] * layers.shape[2]
    masks = []
    for layer in layers:
        counts = np.bincount(layer.ravel())
        masks += [layer == label for label in range(1, len(counts)) if counts[label] >= least]
    return masks


def named_masks(labelled: LabelledImage) -> list[tuple[str, NDArray[np.bool_]]]:
    """List the instances that have a class and count, with its name."""
    least = SMALLEST_SHARE * labelled.rgb.shape[0] * labelled.rgb.shape[1]
    found = []
    for layer, label in labelled.instances():
        mask = labelled.layers[layer] == label
        if label in labelled.classes and np.count_nonzero(mask) >= least:
            found.append((labelled.classes[label], mask))
    return found


def read_image(dataset: InstanceDataset, index: int) -> EvaluationImage | None:
    """Read an image; None if it has no instance that counts.

    Of several annotators the first one's instances count: each divides the whole image.
    """
    labelled = dataset.read(index)
    layers = labelled.layers[:1] if labelled.is_by_annotator else labelled.layers
    ground_truth = instance_masks(layers)
    return EvaluationImage(dataset, index, labelled, ground_truth) if ground_truth else None


def read_images(
    datasets: Sequence[InstanceDataset], limit: int, word: str
) -> Generator[EvaluationImage]:
    """Read the images that count, with a progress bar of this word; see `choose_images`.

    Close it, or the bar stays open after an error.

    Raises:
        DatasetError: if there is none.
    """
    is_empty = True
    chosen = list(choose_images(datasets, limit))
    for place in tqdm(chosen, unit="image", desc=word, file=sys.stderr):
        image = read_image(*place)
        if image is not None:
            is_empty = False
            yield image
    if is_empty:
        names = ", ".join(dataset.name for dataset in datasets)
        raise DatasetError(f"{names}: {NO_IMAGE}")


def spread(indices: Sequence[int], limit: int) -> list[int]:
    """Take at most `limit` of the indices, evenly spread; 0 takes all."""
    count = min(len(indices), limit or len(indices))
    return [indices[i * len(indices) // count] for i in range(count)]


def choose_images(
    datasets: Sequence[InstanceDataset], limit: int, *, consecutive: bool = False
) -> Iterator[tuple[InstanceDataset, int]]:
    """List the images to measure on, at most `limit` of each data set (0: all).

    They are spread evenly over a data set, or its first ones where they have to be `consecutive`.
    """
    for dataset in datasets:
        every = range(len(dataset))
        for index in every[: limit or None] if consecutive else spread(every, limit):
            yield dataset, index
