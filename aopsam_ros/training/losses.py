"""Losses of the promptable segmenter and of the Prompt Predictor.

Sums are divided by weights averaged over a run's processes: the mean of all processes' losses is
that of the whole batch.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from aopsam_ros.training.loop.processes import average

FOCAL_WEIGHT = 20.0
IOU_WEIGHT = 2.0
OTHER_MASKS = 0.05  # share of the loss that the two losing masks keep, so that none dies
# Positive pixels are a few per mille of a map; a plain mean would make "nothing anywhere" a good
# answer.
PEAK_EMPHASIS = 8.0
UNLABELLED_WEIGHT = 0.35


def mask_losses(logits: Tensor, target: Tensor) -> Tensor:
    """Focal plus dice loss `[P, M]` of masks, as SAM weighs them (arXiv 2304.02643, section 3).

    Logits are `[P, M, H, W]`; the target is the share of each pixel that the instance covers,
    `[P, H, W]` in 0-1.
    """
    probability = torch.sigmoid(logits).flatten(2)
    wanted = target.flatten(1).unsqueeze(1)
    overlap = (probability * wanted).sum(-1)
    dice = 1 - (2 * overlap + 1) / (probability.sum(-1) + wanted.sum(-1) + 1)
    entropy = F.binary_cross_entropy_with_logits(
        logits.flatten(2), wanted.expand_as(probability), reduction="none"
    )
    focal = (entropy * (probability - wanted).square()).mean(-1)
    return FOCAL_WEIGHT * focal + dice


def choice_loss(losses: Tensor) -> Tensor:
    """Train the best of the masks `[P, M]`, the others a little."""
    return ((1 - OTHER_MASKS) * losses.min(1).values + OTHER_MASKS * losses.mean(1)).mean()


def low_resolution_iou(logits: Tensor, target: Tensor) -> Tensor:
    """IoU `[P, M]` of thresholded masks `[P, M, H, W]` with targets `[P, H, W]`."""
    inside = (logits > 0).flatten(2)
    wanted = (target > 0.5).flatten(1).unsqueeze(1)
    intersection = (inside & wanted).sum(-1)
    return intersection / (inside | wanted).sum(-1).clamp(min=1)


def segmenter_loss(logits: Tensor, predicted_iou: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Combine mask choice and IoU regression.

    Returns:
        The loss, and the masks' IoU `[P, M]`.
    """
    losses = mask_losses(logits, target)
    with torch.no_grad():
        iou = low_resolution_iou(logits, target)
    return choice_loss(losses) + IOU_WEIGHT * F.mse_loss(predicted_iou, iou), iou


def confidence_loss(confidence: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Weighted MSE between confidence maps `[B, 1, P, P]` and targets `[B, P, P]`, in 0-1.

    Where the data does not say what is there (`known`, `bool [B, P, P]`), an object may be
    unlabelled, and a peak costs less.
    """
    weight = torch.where(known, 1.0, UNLABELLED_WEIGHT) + PEAK_EMPHASIS * target
    return (weight * (confidence.squeeze(1) - target).square()).sum() / average(weight.sum())


def extent_iou(found: Tensor, target: Tensor) -> Tensor:
    """IoU `[B, h, w]` of boxes given by distances `[B, 4, h, w]` from the same places."""
    a, b = found.clamp(min=1e-4), target.clamp(min=1e-4)
    common = torch.minimum(a, b)
    area = (a[:, 0] + a[:, 2]) * (a[:, 1] + a[:, 3])
    wanted = (b[:, 0] + b[:, 2]) * (b[:, 1] + b[:, 3])
    overlap = (common[:, 0] + common[:, 2]) * (common[:, 1] + common[:, 3])
    return overlap / (area + wanted - overlap)


def extent_loss(log_extents: Tensor, target: Tensor, weight: Tensor, unit: float) -> Tensor:
    """IoU loss of the boxes plus L1 of the logarithms, which never saturates.

    `log_extents` are logarithms of the extents over `unit`, `[B, 4, h, w]`, the target's are
    extents; each place has a weight, `[B, h, w]`, 0 where nothing is known.
    """
    iou = extent_iou(unit * torch.exp(log_extents), target)
    ratio = log_extents - torch.log(target.clamp(min=1e-3) / unit)
    places = (1 - iou) + 0.25 * ratio.abs().mean(1)
    return (places * weight).sum() / average(weight.sum()).clamp(min=1.0)
