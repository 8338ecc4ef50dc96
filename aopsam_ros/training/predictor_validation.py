"""Quality of the prompts on held-out images."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aopsam_ros.geometry import FrameGeometry
from aopsam_ros.options import SegmenterOptions
from aopsam_ros.prompting.prompts import FrameInput
from aopsam_ros.prompting.sampling import PredictorSource
from aopsam_ros.training.predictor_batches import PredictorBatch, read_sample
from aopsam_ros.training.prepared_images import (
    EmbeddingCache,
    PreparedImage,
    PreparedSet,
    TargetCache,
)

MOST_IMAGES = 64  # a validation should take seconds


class Predicted(NamedTuple):
    """Confidence maps `[B, 1, P, P]` of a batch, the loss, and the extents' mean IoU."""

    confidence: Tensor
    loss: Tensor
    extent_iou: Tensor


Forward = Callable[[PredictorBatch], Predicted]


@dataclass(frozen=True)
class HeldOut:
    """Held-out images, whole and as at inference."""

    images: list[PreparedImage]
    targets: TargetCache
    embeddings: EmbeddingCache | None  # None where the trainer encodes the images

    @torch.no_grad()
    def measure(self, forward: Forward) -> dict[str, float]:
        """Return `held_out_loss`, `_recall`, `_prompts` and `_extents`; {} without images.

        Recall is the share of all masks that at least one prompt hits, prompts are counted per
        image; both as sampled with the default options. Extents are measured by their mean IoU.
        """
        losses, hits, prompts, extents = [], [], [], []
        for image in self.images:
            sample = read_sample(image, False, self.targets, self.embeddings)
            batch = PredictorBatch(*(torch.from_numpy(part[None]) for part in sample))
            predicted = forward(batch)
            points = sampled_points(
                predicted.confidence[0, 0].cpu().numpy(), *map(int, batch.sizes[0])
            )
            hits += masks_hit(self.targets.layers(image), points, self.targets.smallest)
            losses.append(predicted.loss.item())
            extents.append(predicted.extent_iou.item())
            prompts.append(len(points))
        if not losses:
            return {}
        figures = {"held_out_loss": float(np.mean(losses))}
        if hits:
            figures["held_out_recall"] = float(np.mean(hits))
        figures["held_out_prompts"] = float(np.mean(prompts))
        return figures | {"held_out_extents": float(np.mean(extents))}


def choose(sets: list[PreparedSet]) -> list[PreparedImage]:
    """Choose the images to validate on: always the same ones, of all sets."""
    images = [image for part in sets for image in part.images]
    return sorted(images, key=lambda image: image.target_key)[:MOST_IMAGES]


def sampled_points(confidence: NDArray[np.float32], height: int, width: int) -> NDArray[np.float64]:
    """Sample prompts as at inference, with the default options.

    `confidence` is `[P, P]` over the padded square, height and width are those of the resized
    image in pixels, as are the x and y returned, `[N, 2]`.
    """
    options = SegmenterOptions()
    geometry = FrameGeometry(height, width, height, width, max(height, width))
    prompts = PredictorSource().propose(FrameInput(geometry, options, confidence))
    return prompts.points[: options.asf.max_prompts]


def masks_hit(layers: NDArray[np.uint16], points: NDArray[np.float64], smallest: int) -> list[bool]:
    """Return for every instance of at least `smallest` pixels whether a point lies in it."""
    x, y = np.rint(points).astype(np.int64).T
    hits: list[bool] = []
    for layer in layers:
        counts = np.bincount(layer.ravel())
        prompted = set(layer[y, x].tolist())
        hits += [label in prompted for label in range(1, len(counts)) if counts[label] >= smallest]
    return hits
