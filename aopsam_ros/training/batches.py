"""Batches for the segmenter: views, prompts and low-resolution targets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aopsam_ros.data.datasets import InstanceDataset, least_fraction, split_by_group
from aopsam_ros.errors import DatasetError
from aopsam_ros.training.augmentation import AugmentationOptions, View, paste_objects, random_view
from aopsam_ros.training.prompt_sampling import loose_box, random_point
from aopsam_ros.training.regions import surface_layer

SMALLEST_INSTANCE = 48  # pixels of the view; smaller remnants of a crop teach nothing
TARGET_STRIDE = 4
SURFACES = 3  # prompts of a view that may ask for an unlabelled surface
SURFACE_PROBABILITY = 0.5


@dataclass(frozen=True)
class WeightedDataset:
    """A data set, which of its images to use, and how often compared with the others."""

    dataset: InstanceDataset
    indices: list[int]
    weight: float = 1.0


@dataclass(frozen=True)
class Batch:
    """One step's worth: images, point prompts, box prompts and their targets.

    Attributes:
        images: `uint8 [B, S, S, 3]`, zero outside the view.
        sizes: Height and width of each view, `[B, 2]`.
        points: `float32 [B, N, 1, 2]` pixels of the view.
        boxes: `float32 [B, M, 2, 2]`.
        targets: `uint8 [B, N + M, S / 4, S / 4]`, coverage 0-255.
    """

    images: Tensor
    sizes: Tensor
    points: Tensor
    boxes: Tensor
    targets: Tensor


class SegmenterBatches(torch.utils.data.IterableDataset):
    """Endless random batches; worker `k` of seed `s` always yields the same ones."""

    def __init__(
        self,
        data: list[WeightedDataset],
        image_size: int,
        canvas: int,
        batch_size: int,
        points: int,
        boxes: int,
        seed: int,
        augmentation: AugmentationOptions | None = None,
    ) -> None:
        self.data = data
        self.image_size, self.canvas = image_size, canvas
        self.batch_size, self.points, self.boxes = batch_size, points, boxes
        self.seed = seed
        self.augmentation = augmentation or AugmentationOptions()
        share = np.array([len(d.indices) * d.weight for d in data], np.float64)
        self.share = share / share.sum()

    def __iter__(self) -> Iterator[Batch]:
        info = torch.utils.data.get_worker_info()
        cv2.setNumThreads(1)
        rng = np.random.default_rng([self.seed, info.id if info else 0])
        while True:
            yield self._batch(rng)

    def _batch(self, rng: np.random.Generator) -> Batch:
        samples = [self._sample(rng) for _ in range(self.batch_size)]
        return Batch(*(torch.from_numpy(np.stack(column)) for column in zip(*samples, strict=True)))

    def _sample(self, rng: np.random.Generator) -> tuple[NDArray, ...]:
        while True:
            view = self._view(rng)
            instances = _visible_instances(view.layers)
            if instances:
                return self._prompted(view, instances, rng)

    def _view(self, rng: np.random.Generator) -> View:
        view = self._random_view(rng)
        if rng.random() < self.augmentation.copy_paste_probability:
            view = paste_objects(view, self._random_view(rng), rng)
        return view

    def _random_view(self, rng: np.random.Generator) -> View:
        source = self.data[rng.choice(len(self.data), p=self.share)]
        image = source.dataset.read(source.indices[rng.integers(len(source.indices))])
        return random_view(image, self.canvas, self.image_size, self.augmentation, rng)

    def _prompted(
        self, view: View, instances: list[tuple[int, int]], rng: np.random.Generator
    ) -> tuple[NDArray, ...]:
        masks = self._masks(view, instances, rng)
        points = [random_point(mask, rng) for mask in masks[: self.points]]
        boxes = [loose_box(mask, rng) for mask in masks[self.points :]]
        height, width = view.rgb.shape[:2]
        image = np.zeros((self.canvas, self.canvas, 3), np.uint8)
        image[:height, :width] = view.rgb
        return (
            image,
            np.array([height, width]),
            np.array(points, np.float32).reshape(-1, 1, 2),
            np.array(boxes, np.float32).reshape(-1, 2, 2),
            np.stack([coverage(mask, self.canvas) for mask in masks]),
        )

    def _masks(
        self, view: View, instances: list[tuple[int, int]], rng: np.random.Generator
    ) -> list[NDArray[np.bool_]]:
        """Draw one mask a prompt: instances, and sometimes a few surfaces."""
        surfaces: list[NDArray[np.bool_]] = []
        if rng.random() < SURFACE_PROBABILITY:
            layer = surface_layer(view.rgb, np.any(view.layers, axis=0), SURFACES, rng)
            surfaces = [layer == label for label in range(1, int(layer.max()) + 1)]
        count = self.points + self.boxes - len(surfaces)
        masks = [view.layers[i] == v for i, v in _choose(instances, count, rng)] + surfaces
        return [masks[i] for i in rng.permutation(len(masks))]


def _visible_instances(layers: NDArray[np.uint16]) -> list[tuple[int, int]]:
    found = []
    for index, layer in enumerate(layers):
        counts = np.bincount(layer.ravel())
        found += [(index, v) for v in range(1, len(counts)) if counts[v] >= SMALLEST_INSTANCE]
    return found


def _choose(
    instances: list[tuple[int, int]], count: int, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Draw `count` instances, every one once before any comes again."""
    order: list[int] = []
    while len(order) < count:
        order += rng.permutation(len(instances)).tolist()
    chosen = order[:count]
    return [instances[chosen[i]] for i in rng.permutation(count)]


def coverage(mask: NDArray[np.bool_], canvas: int) -> NDArray[np.uint8]:
    """Share of each low-resolution pixel that a mask covers, `uint8 [S/4, S/4]`, 0-255."""
    padded = np.zeros((canvas, canvas), np.uint8)
    padded[: mask.shape[0], : mask.shape[1]] = mask
    padded *= 255
    side = canvas // TARGET_STRIDE
    return cv2.resize(padded, (side, side), interpolation=cv2.INTER_AREA)


def normalise(images: Tensor, sizes: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Normalise `uint8 [B, S, S, 3]` and zero what lies outside each view → `[B, 3, S, S]`."""
    pixels = (images.to(mean.dtype) - mean) / std
    index = torch.arange(images.shape[1], device=images.device)
    rows = index[None, :] < sizes[:, :1]
    columns = index[None, :] < sizes[:, 1:]
    pixels = pixels * (rows[:, :, None] & columns[:, None, :])[..., None]
    return pixels.permute(0, 3, 1, 2)


def hold_out(
    datasets: list[tuple[InstanceDataset, float]], fraction: float
) -> tuple[list[WeightedDataset], list[WeightedDataset]]:
    """Split every data set by group into training and held-out parts.

    Of a share that is too small for the groups there are, one group is held out all the same.

    Raises:
        DatasetError: Nothing is left to train on.
    """
    training, held = [], []
    if fraction > 0:
        fraction = max(fraction, least_fraction([dataset for dataset, _ in datasets]))
    for dataset, weight in datasets:
        kept, out = split_by_group(dataset, fraction)
        if kept:
            training.append(WeightedDataset(dataset, kept, weight))
        if out:
            held.append(WeightedDataset(dataset, out, weight))
    if not training:
        raise DatasetError("no image is left to train on after the split")
    return training, held
