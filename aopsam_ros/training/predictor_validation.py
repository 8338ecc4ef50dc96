"""Quality of the prompts on held-out images."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aopsam_ros.geometry import FrameGeometry
from aopsam_ros.options import SegmenterOptions
from aopsam_ros.prompting.confidence_map_sampling import PredictorSource
from aopsam_ros.prompting.prompts import FrameInput
from aopsam_ros.training.loop.loader import stack_samples
from aopsam_ros.training.predictor_batches import PredictorBatch, read_sample
from aopsam_ros.training.predictor_targets import SMALLEST_PROMPTED
from aopsam_ros.training.prepared_images import EmbeddingCache, PreparedImage, TargetCache

MOST_IMAGES = 64  # a validation should take seconds


class Predicted(NamedTuple):
    """Confidence maps `[B, 1, P, P]` of a batch, the loss, and the extents' mean IoU."""

    confidence: Tensor
    loss: Tensor
    extent_iou: Tensor


@torch.no_grad()
def measure_prompts(
    images: list[PreparedImage],
    targets: TargetCache,
    embeddings: EmbeddingCache | None,
    forward: Callable[[PredictorBatch], Predicted],
) -> dict[str, float]:
    """Return `held_out_loss`, `_recall`, `_prompts` and `_extents`; {} without images.

    Recall is the share of all masks that at least one prompt hits, prompts are counted per image;
    both as sampled with the default options. Extents are measured by their mean IoU. `embeddings`
    is None where the trainer, whose `forward` is called, encodes the images itself.
    """
    losses, hits, prompts, extents = [], [], [], []
    for image in images:
        batch = PredictorBatch(*stack_samples([read_sample(image, False, targets, embeddings)]))
        predicted = forward(batch)
        points = sampled_points(predicted.confidence[0, 0].cpu().numpy(), *map(int, batch.sizes[0]))
        hits += masks_hit(targets.layers(image), points)
        losses.append(predicted.loss.item())
        extents.append(predicted.extent_iou.item())
        prompts.append(len(points))
    figures = {"loss": losses, "recall": hits, "prompts": prompts, "extents": extents}
    return {f"held_out_{name}": float(np.mean(each)) for name, each in figures.items() if each}


def validation_images(images: list[PreparedImage]) -> list[PreparedImage]:
    """Choose the images to validate on: always the same ones."""
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


def masks_hit(layers: NDArray[np.uint16], points: NDArray[np.float64]) -> list[bool]:
    """Return for every instance that is large enough whether a point lies in it."""
    x, y = np.rint(points).astype(np.int64).T
    hits: list[bool] = []
    for layer in layers:
        counts = np.bincount(layer.ravel())
        large = np.flatnonzero(counts[1:] >= SMALLEST_PROMPTED) + 1
        hits += np.isin(large, layer[y, x]).tolist()
    return hits
