"""The image as a prompt sees it, which is never made.

SAM's decoder gives every prompt a copy of the image and writes into it twice. What it writes is
little: a cell receives a mixture of few vectors, one for each token and head. So, but for gains and
biases, the copy after a block's norm is

    image_b = scale_b * (image_(b-1) + weights_b^T told_b),    image_0: the frame's, for all prompts

and what tokens ask of the copy is asked of these parts. What the frame's image answers is projected
once a frame. The variance that a norm divides by is the mean square of such a sum: it is made of
the parts' mean squares and of their products with each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from aopsam_ros.models.mobile_sam.attention import HEADS, WIDTH
from aopsam_ros.models.mobile_sam.layers import reshape


class Written(NamedTuple):
    """What a block wrote into the copies of N prompts, by R vectors: one a head and token.

    `told` `[N, 1, R, 256]` are the vectors, without their mean; `weights` `[N, 1, R, cells]` how
    much of each a cell took; `scale` `[N, 1, 1, cells]` what the norm multiplied the sum with. The
    first 1 is where heads are elsewhere.
    """

    told: Tensor
    weights: Tensor
    scale: Tensor


def by_head(x: Tensor) -> Tensor:
    """Map `[8 d, columns]` to `[8, d, columns]`."""
    return reshape(x, HEADS, -1, x.shape[-1])


def project(weight: Tensor, cells: Tensor) -> Tensor:
    """Map the frame's image `[256, cells]` by `[8, d, 256]`: `[8, d, cells]`."""
    # One product for all heads: it is several times faster than one a head.
    return reshape(weight.flatten(0, 1) @ cells, *weight.shape[:2], -1)


def in_rows(x: Tensor) -> Tensor:
    """Map `[N, 8, T, ...]` to `[N, 1, 8 T, ...]`."""
    return reshape(x, 0, 1, -1, 0)


def in_heads(x: Tensor) -> Tensor:
    """Map `[N, 1, 8 T, ...]` to `[N, 8, T, ...]`."""
    return reshape(x, 0, HEADS, -1, 0)


def centred(x: Tensor, channels: int = -1) -> Tensor:
    """Take its mean over the channels off each vector, as a norm does."""
    return x - x.mean(channels, keepdim=True)


def products(tokens: Tensor, ask: Tensor, projected: Tensor, written: Sequence[Written]) -> Tensor:
    """Multiply tokens with a projection of a prompt's image.

    Args:
        tokens: `[N, 8, T, d]`.
        ask: the projection, `[8, d, 256]`.
        projected: that of the frame's image, `[8, d, cells]`.
        written: by the blocks so far.

    Returns:
        `[N, 8, T, cells]`.
    """
    asked = in_rows(tokens @ ask)
    found = tokens @ projected
    for told, weights, scale in written:
        mixed = (asked @ told.transpose(2, 3)) @ weights
        found = (found + in_heads(mixed)) * scale
    return found


def means(weights: Tensor, value: Tensor, tell: Tensor, written: Sequence[Written]) -> Tensor:
    """Average a projection of the cells of a prompt's image.

    Args:
        weights: of the averages, `[N, 8, T, cells]`.
        value: the projection of the frame's image, `[8, cells, d]`.
        tell: the projection, `[8, 256, d]`.
        written: by the blocks so far.

    Returns:
        `[N, 8, T, d]`.
    """
    parts = []
    for told, inner, scale in reversed(written):
        weights = weights * scale
        mixed = (in_rows(weights) @ inner.transpose(2, 3)) @ told
        parts.append(in_heads(mixed) @ tell)
    return sum(parts, weights @ value)


def mean_of(products: Tensor) -> Tensor:
    """Turn products of vectors, which are sums over the channels, into means."""
    return products / WIDTH


def norm_scale(
    variance: Tensor,
    meets: Sequence[Tensor],
    written: Sequence[Written],
    told: Tensor,
    weights: Tensor,
    eps: float,
) -> Tensor:
    """Return what a norm multiplies each cell of a prompt's image with, once more is written.

    Args:
        variance: of the frame's image, `[cells]`.
        meets: its products with the vectors of each block, the new one's last, as means over the
            channels: `[N, 1, R, cells]`.
        written: by the blocks before.
        told: the new block's vectors `[N, 1, R, 256]`.
        weights: the new block's, `[N, 1, R, cells]`.
        eps: the norm's.

    Returns:
        `[N, 1, 1, cells]`.
    """
    vectors, products = [*(block.told for block in written), told], list(meets)
    for k, block in enumerate(written):
        variance = _variance_with(variance, products[k], block.told, block.weights)
        variance = variance * block.scale**2
        for j in range(k + 1, len(vectors)):
            both = mean_of(vectors[j] @ block.told.transpose(2, 3))
            products[j] = (products[j] + both @ block.weights) * block.scale
    variance = _variance_with(variance, products[-1], told, weights)
    # Rounding must not make it negative.
    return 1.0 / torch.sqrt(torch.relu(variance) + eps)


def _variance_with(variance: Tensor, meets: Tensor, told: Tensor, weights: Tensor) -> Tensor:
    """Return the variance of `cell + weights^T told`, of the cell's and its products with told."""
    among = mean_of(told @ told.transpose(2, 3))
    # (c + wt)^2 = c^2 + w (2 ct + wtt)
    return variance + (weights * (2.0 * meets + among @ weights)).sum(2, keepdim=True)
