"""Batches for the segmenter: views, prompts and targets."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aopsam_ros.data.datasets import least_fraction, split_by_group
from aopsam_ros.data.labelled_images import Grouped, LabelledImage
from aopsam_ros.data.shards import Sa1bShards
from aopsam_ros.errors import DatasetError
from aopsam_ros.training.loop.loader import EndlessBatches, readable, stack_samples
from aopsam_ros.training.predictor_targets import (
    SMALLEST_PROMPTED,
    ViewInstance,
    view_instances,
    view_maps,
)
from aopsam_ros.training.prompt_sampling import loose_box, random_point
from aopsam_ros.training.views.augmentation import paste_objects, random_view
from aopsam_ros.training.views.drawn_things import draw_things
from aopsam_ros.training.views.drawn_tiles import draw_tiles
from aopsam_ros.training.views.regions import surface_layer

SMALLEST_INSTANCE = 48  # pixels of the view; smaller remnants of a crop teach nothing
MOST_EMPTY = 1000  # views in a row
TARGET_STRIDE = 4
COPY_PASTE_PROBABILITY = 0.25  # of objects of another photograph being pasted in
DRAWN_PROBABILITY, TILES_SHARE = 0.25, 0.12  # of things being drawn in, and of these being tiles
# Prompts of a view: points, then boxes (tight and loose in turns), then points with boxes.
POINTS, BOXES, BOTH = 8, 5, 3
PROMPTS = POINTS + BOXES + BOTH
SURFACES = 3  # prompts of a view that may ask for an unlabelled surface
POINTS_OF_PROMPT = 3  # a point and two box corners
TIGHT, LOOSE = 0.02, 0.1  # shifts of box corners, in sides of the box


@dataclass(frozen=True)
class WeightedDataset:
    """A data set, which of its images to use, and how often compared with the others."""

    dataset: Any  # an `InstanceDataset`, or `EncodedFrames` without labels
    indices: Sequence[int]
    weight: float = 1.0

    @property
    def count(self) -> float:
        """Number of its images, times the weight."""
        return len(self.indices) * self.weight

    def pick(self, rng: np.random.Generator) -> int:
        """Draw the index of an image."""
        return self.indices[int(rng.integers(len(self.indices)))]


@dataclass(frozen=True)
class BatchOptions:
    """What every batch looks like."""

    image_size: int  # the encoder's input size at inference, pixels
    shapes: tuple[tuple[int, int], ...]  # heights and widths, one for each batch; multiples of 32
    batch_size: int = 8  # views
    surfaces: float = 0.0  # how often a view asks for unlabelled surfaces, 0-1
    # whole photographs, prompted at innermost pixels and by tight boxes only, as evaluation does
    validates: bool = False


@dataclass(frozen=True)
class Batch:
    """One step's worth."""

    images: Tensor  # uint8 [B, H, W, 3], zero outside the view
    sizes: Tensor  # [B, 2], height and width of each view
    coords: Tensor  # float32 [B, N, 3, 2], pixels of the view
    labels: Tensor  # float32 [B, N, 3], as the decoder takes them
    targets: Tensor  # uint8 [B, N, H/4, W/4], coverage 0-255
    classes: Tensor  # int64 [B, N], `class_number` of what is prompted
    confidence: Tensor  # uint8 [B, H/4, W/4], the map to predict, 0-255
    known: Tensor  # bool [B, H/4, W/4], where the data says what is there
    extents: Tensor  # float32 [B, 4, H/8, W/8]
    extent_weights: Tensor  # float32 [B, H/8, W/8]


class SegmenterBatches(EndlessBatches):
    """Endless batches of random views."""

    def __init__(
        self, data: list[WeightedDataset], options: BatchOptions, seed: int, cached_bytes: int = 0
    ) -> None:
        super().__init__([part.count for part in data], options.batch_size, seed)
        self.data, self.options = data, options
        self._room, self._kept = cached_bytes, dict[tuple[int, int], LabelledImage]()

    def batch(self, whole: np.random.Generator, each: list[np.random.Generator]) -> Batch:
        """Draw a batch, all of it of one shape."""
        shape = self.options.shapes[whole.integers(len(self.options.shapes))]
        return Batch(*stack_samples(self._sample(shape, rng) for rng in each))

    def _read(self, source: int, index: int) -> LabelledImage:
        """Read an image, or take it from those that are kept while there is room."""
        if image := self._kept.get((source, index)):
            return image
        dataset = self.data[source].dataset
        image = dataset.read(index)
        size = image.rgb.nbytes + image.layers.nbytes
        # A stream's images come in its own order, and hardly ever twice.
        if size <= self._room and not isinstance(dataset, Sa1bShards):
            self._kept[source, index] = image
            self._room -= size
        return image

    def _sample(self, shape: tuple[int, int], rng: np.random.Generator) -> tuple[NDArray, ...]:
        for _ in range(MOST_EMPTY):
            view = self._view(shape, rng)
            instances = view_instances(view.layers, SMALLEST_INSTANCE)
            if instances:
                prompted = self._prompted(view, shape, instances, rng)
                return *prompted, *self._maps(view, shape, instances)
        raise DatasetError(
            f"none of {MOST_EMPTY} views shows an instance of {SMALLEST_INSTANCE} pixels"
        )

    def _view(self, shape: tuple[int, int], rng: np.random.Generator) -> LabelledImage:
        view = self._random_view(shape, rng)
        if rng.random() < COPY_PASTE_PROBABILITY and not self.options.validates:
            view = paste_objects(view, self._random_view(shape, rng), rng)
        if not self.options.validates and rng.random() < DRAWN_PROBABILITY:
            draw = draw_tiles if rng.random() < TILES_SHARE else draw_things
            view = draw(view, self._random_view(shape, rng).rgb, rng)
        return view

    def _random_view(self, shape: tuple[int, int], rng: np.random.Generator) -> LabelledImage:
        source = self.pick_set(rng)
        image = readable(lambda: self._read(source, self.data[source].pick(rng)))
        return random_view(image, shape, self.options.image_size, rng, self.options.validates)

    def _prompted(
        self,
        view: LabelledImage,
        shape: tuple[int, int],
        instances: list[ViewInstance],
        rng: np.random.Generator,
    ) -> tuple[NDArray, ...]:
        height, width = view.rgb.shape[:2]
        image = np.zeros((*shape, 3), np.uint8)
        image[:height, :width] = view.rgb
        masks, classes = self._masks(view, instances, rng)
        prompts = [self._prompt(number, mask, rng) for number, mask in enumerate(masks)]
        coords, labels = zip(*prompts, strict=True)
        targets = np.stack([covered_shares(mask, shape) for mask in masks])
        size = np.array([height, width])
        return image, size, np.stack(coords), np.stack(labels), targets, classes

    def _prompt(
        self, number: int, mask: NDArray[np.bool_], rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return coordinates `[3, 2]` and labels `[3]` of a view's prompt, of the kind it is."""
        coords = np.zeros((POINTS_OF_PROMPT, 2), np.float32)
        labels = np.full(POINTS_OF_PROMPT, -1, np.float32)
        validates, has_box = self.options.validates, number >= POINTS
        if not has_box or (number >= POINTS + BOXES and not validates):
            coords[0], labels[0] = random_point(mask, rng, 1.0 if validates else 0.35), 1
        if has_box:
            looseness = 0.0 if validates else (TIGHT, LOOSE)[number % 2]
            coords[1:], labels[1:] = loose_box(mask, rng, looseness), (2, 3)
        return coords, labels

    def _masks(
        self, view: LabelledImage, instances: list[ViewInstance], rng: np.random.Generator
    ) -> tuple[list[NDArray[np.bool_]], NDArray[np.int64]]:
        """Draw a mask and a class number a prompt: instances, and sometimes a few surfaces."""
        surfaces: list[NDArray[np.bool_]] = []
        if rng.random() < self.options.surfaces:
            layer = surface_layer(view.rgb, np.any(view.layers, axis=0), SURFACES, rng)
            surfaces = [layer == label for label in range(1, int(layer.max()) + 1)]
        chosen = _choose(instances, PROMPTS - len(surfaces), rng)
        masks = [view.layers[i.layer] == i.label for i in chosen] + surfaces
        names = [view.classes.get(i.label, "") for i in chosen] + [""] * len(surfaces)
        order = rng.permutation(len(masks))
        classes = np.array([class_number(names[i]) for i in order], np.int64)
        return [masks[i] for i in order], classes

    def _maps(
        self, view: LabelledImage, shape: tuple[int, int], instances: list[ViewInstance]
    ) -> tuple[NDArray, ...]:
        """Return what the predictor is to learn of a view."""
        prompted = [i for i in instances if i.area >= SMALLEST_PROMPTED]
        confidence, *others = view_maps(view.layers, prompted, shape, self.options.image_size)
        return np.rint(255 * confidence).astype(np.uint8), *others


def _choose(
    instances: list[ViewInstance], count: int, rng: np.random.Generator
) -> list[ViewInstance]:
    """Draw `count` instances, every one once before any comes again."""
    order: list[int] = []
    while len(order) < count:
        order += rng.permutation(len(instances)).tolist()
    return [instances[i] for i in order[:count]]


def class_number(name: str) -> int:
    """Return a number of a class by its name, the same in every process; 0 where it has none."""
    return zlib.crc32(name.encode()) if name else 0


def covered_shares(mask: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Share of each low-resolution pixel that a mask covers, `uint8 [H/4, W/4]`, 0-255."""
    padded = np.zeros(shape, np.uint8)
    padded[: mask.shape[0], : mask.shape[1]] = mask
    padded *= 255
    size = shape[1] // TARGET_STRIDE, shape[0] // TARGET_STRIDE
    return cv2.resize(padded, size, interpolation=cv2.INTER_AREA)


def normalise(images: Tensor, sizes: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Normalise `uint8 [B, H, W, 3]` and zero what lies outside each view → `[B, 3, H, W]`."""
    pixels = (images.to(mean.dtype) - mean) / std
    rows = torch.arange(images.shape[1], device=images.device)[None, :] < sizes[:, :1]
    columns = torch.arange(images.shape[2], device=images.device)[None, :] < sizes[:, 1:]
    pixels = pixels * (rows[:, :, None] & columns[:, None, :])[..., None]
    return pixels.permute(0, 3, 1, 2)


def hold_out(
    datasets: Sequence[tuple[Grouped, float]], fraction: float
) -> tuple[list[WeightedDataset], list[WeightedDataset]]:
    """Split every data set by group into training and held-out parts.

    Of a share that is too small for the groups there are, one group is held out all the same.
    Streamed sets are for training only.

    Raises:
        DatasetError: if nothing is left to train on.
    """
    training: list[WeightedDataset] = []
    held: list[WeightedDataset] = []
    stored = [dataset for dataset, _ in datasets if not isinstance(dataset, Sa1bShards)]
    if fraction > 0:
        fraction = max(fraction, least_fraction(stored))
    for dataset, weight in datasets:
        if isinstance(dataset, Sa1bShards):
            training.append(WeightedDataset(dataset, range(len(dataset)), weight))
            continue
        for part, indices in zip((training, held), split_by_group(dataset, fraction), strict=True):
            if indices:
                part.append(WeightedDataset(dataset, indices, weight))
    if not training:
        raise DatasetError("no image is left to train on after the split")
    return training, held


def describe_data(data: list[WeightedDataset]) -> list[str]:
    """Return a line for each data set: its name, number of training images and weight."""
    return [
        f"{part.dataset.name}: {len(part.indices)} images, weight {part.weight:g}" for part in data
    ]
