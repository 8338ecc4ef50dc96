"""Batches for the predictor: random views to encode, or whole images already encoded."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aopsam_ros.images.files import read_rgb
from aopsam_ros.models.prompt_predictor import MAP_STRIDE
from aopsam_ros.training.augmentation import AugmentationOptions, random_view
from aopsam_ros.training.batches import WeightedDataset
from aopsam_ros.training.extent_targets import extent_target, view_instances
from aopsam_ros.training.loop.loader import EndlessBatches, readable
from aopsam_ros.training.predictor_targets import PromptTarget, view_target
from aopsam_ros.training.prepared_images import (
    EmbeddingCache,
    PreparedImage,
    PreparedSet,
    TargetCache,
    pad_to_square,
)


@dataclass(frozen=True)
class PredictorBatch:
    """The inputs and targets of one training step."""

    images: Tensor  # uint8 [B, S, S, 3], zero outside the view
    sizes: Tensor  # [B, 2], height and width of each view
    targets: Tensor  # float32 [B, P, P] in 0-1
    known: Tensor  # bool [B, P, P], where the images are labelled
    extents: Tensor  # float32 [B, 4, P/2, P/2], in sides of the square
    extent_weights: Tensor  # float32 [B, P/2, P/2], 0 where no instance is
    embeddings: Tensor | None = None  # float16 [B, C, h, w]; None where the trainer encodes


Sample = tuple[np.ndarray, ...]  # one row of each tensor of a batch


class PredictorBatches(EndlessBatches[PredictorBatch]):
    """Endless random batches of several data sets."""

    def __init__(self, shares: list[float], batch_size: int, seed: int) -> None:
        super().__init__(batch_size, seed)
        total = np.array(shares, np.float64)
        self.share = total / total.sum()

    def batch(self, _: np.random.Generator, each: list[np.random.Generator]) -> PredictorBatch:
        """Draw a batch, each sample of one of the data sets."""
        columns = zip(*(self._sample(self._pick(rng), rng) for rng in each), strict=True)
        return PredictorBatch(*(torch.from_numpy(np.stack(column)) for column in columns))

    def _pick(self, rng: np.random.Generator) -> int:
        return int(rng.choice(len(self.share), p=self.share))

    def _sample(self, source: int, rng: np.random.Generator) -> Sample:
        """Draw a sample of one of the data sets."""
        raise NotImplementedError


class ViewBatches(PredictorBatches):
    """Random crops at random scale and colour, for an encoder that is fast enough for each."""

    def __init__(
        self,
        data: list[WeightedDataset],
        image_size: int,
        batch_size: int,
        smallest: int,
        seed: int,
    ) -> None:
        super().__init__([len(d.indices) * d.weight for d in data], batch_size, seed)
        self.data, self.image_size, self.smallest = data, image_size, smallest
        self.augmentation = AugmentationOptions()

    def _sample(self, source: int, rng: np.random.Generator) -> Sample:
        part = self.data[source]
        labelled = readable(
            lambda: part.dataset.read(part.indices[int(rng.integers(len(part.indices)))])
        )
        square = (self.image_size, self.image_size)
        view = random_view(labelled, square, self.image_size, self.augmentation, rng)
        height, width = view.rgb.shape[:2]
        canvas = np.zeros((*square, 3), np.uint8)
        canvas[:height, :width] = view.rgb
        target = view_target(view.layers, self.image_size, MAP_STRIDE, self.smallest)
        maps = _maps(target, view.layers, self.image_size, self.smallest)
        return canvas, np.array([height, width]), *maps


class CachedBatches(PredictorBatches):
    """Whole images and their mirror images, with embeddings from the cache."""

    def __init__(
        self,
        data: list[PreparedSet],
        targets: TargetCache,
        embeddings: EmbeddingCache,
        flips: bool,
        batch_size: int,
        seed: int,
    ) -> None:
        super().__init__([len(d.images) * d.weight for d in data], batch_size, seed)
        self.data, self.targets, self.embeddings, self.flips = data, targets, embeddings, flips

    def _sample(self, source: int, rng: np.random.Generator) -> Sample:
        images = self.data[source].images
        image = images[rng.integers(len(images))]
        return read_sample(image, self.flips and rng.random() < 0.5, self.targets, self.embeddings)


def read_sample(
    image: PreparedImage, flipped: bool, targets: TargetCache, embeddings: EmbeddingCache | None
) -> Sample:
    """Read a whole image, or its mirror image, as at inference."""
    rgb = read_rgb(image.path)
    canvas, geometry = pad_to_square(rgb[:, ::-1] if flipped else rgb, targets.image_size)
    size = np.array([geometry.valid_height, geometry.valid_width])
    layers = targets.layers(image)
    layers = layers[:, :, ::-1] if flipped else layers
    target = targets.target(image, flipped)
    maps = _maps(target, layers, targets.image_size, targets.smallest)
    sample = canvas, size, *maps
    return sample if embeddings is None else (*sample, embeddings.load(image, flipped))


def _maps(
    target: PromptTarget, layers: NDArray[np.uint16], image_size: int, smallest: int
) -> Sample:
    """Return the confidence map, where it is known, the extents and their weights."""
    instances = view_instances(layers, smallest)
    extents = extent_target(layers, instances, (image_size, image_size), image_size)
    return target.map(), target.known, *extents
