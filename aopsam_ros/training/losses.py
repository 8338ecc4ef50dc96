"""Losses of the promptable segmenter: mask shape, mask choice and predicted IoU."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

FOCAL_WEIGHT = 20.0
OTHER_MASKS = 0.05  # share of the loss that the two losing masks keep, so that none dies


def mask_losses(logits: Tensor, target: Tensor) -> Tensor:
    """Focal plus dice loss of each mask, as SAM weighs them (arXiv 2304.02643, section 3).

    Args:
        logits: `[P, M, H, W]`.
        target: Share of each low-resolution pixel that the instance covers, `[P, H, W]` in 0-1.

    Returns:
        `[P, M]`.
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
        The loss, and the mean IoU of the best mask (for the progress line).
    """
    losses = mask_losses(logits, target)
    with torch.no_grad():
        iou = low_resolution_iou(logits, target)
    regression = F.mse_loss(predicted_iou, iou)
    return choice_loss(losses) + 2.0 * regression, iou.max(1).values.mean()
