"""Batches for the predictor: random views to encode, or whole images already encoded."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from aopsam_ros.images.files import read_rgb
from aopsam_ros.training.batches import WeightedDataset
from aopsam_ros.training.loop.loader import EndlessBatches, Sample, readable
from aopsam_ros.training.predictor_targets import (
    SMALLEST_PROMPTED,
    extent_target,
    view_instances,
    view_maps,
)
from aopsam_ros.training.prepared_images import (
    EmbeddingCache,
    PreparedImage,
    PreparedSet,
    TargetCache,
    resize_to_square,
)
from aopsam_ros.training.views.augmentation import random_view


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


class ViewBatches(EndlessBatches):
    """Random crops at random scale and colour, for an encoder that is fast enough for each."""

    make = PredictorBatch

    def __init__(
        self, data: list[WeightedDataset], image_size: int, batch_size: int, seed: int
    ) -> None:
        super().__init__([part.count for part in data], batch_size, seed)
        self.data, self.image_size = data, image_size

    def sample(self, source: int, rng: np.random.Generator) -> Sample:
        """See `EndlessBatches`."""
        part, size = self.data[source], self.image_size
        labelled = readable(lambda: part.dataset.read(part.pick(rng)))
        view = random_view(labelled, (size, size), size, rng)
        height, width = view.rgb.shape[:2]
        canvas = np.zeros((size, size, 3), np.uint8)
        canvas[:height, :width] = view.rgb
        instances = view_instances(view.layers, SMALLEST_PROMPTED)
        maps = view_maps(view.layers, instances, (size, size), size)
        return canvas, np.array([height, width]), *maps


class CachedBatches(EndlessBatches):
    """Whole images and their mirror images, with embeddings from the cache."""

    make = PredictorBatch

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

    def sample(self, source: int, rng: np.random.Generator) -> Sample:
        """See `EndlessBatches`."""
        images = self.data[source].images
        image = images[rng.integers(len(images))]
        return read_sample(image, self.flips and rng.random() < 0.5, self.targets, self.embeddings)


def read_sample(
    image: PreparedImage, flipped: bool, targets: TargetCache, embeddings: EmbeddingCache | None
) -> Sample:
    """Read a whole image, or its mirror image, as at inference."""
    size, rgb, layers = targets.image_size, read_rgb(image.path), targets.layers(image)
    if flipped:
        rgb, layers = rgb[:, ::-1], layers[:, :, ::-1]
    canvas, geometry = resize_to_square(rgb, size)
    target = targets.target(image, flipped)
    instances = view_instances(layers, SMALLEST_PROMPTED)
    extents = extent_target(layers, instances, (size, size), size)
    sample = canvas, np.array(geometry.valid), target.map(), target.known, *extents
    return sample if embeddings is None else (*sample, embeddings.load(image, flipped))
