"""Each prompt's copy of the image features, kept as low-rank updates of the frame's features.

SAM's decoder gives every prompt a copy of the image features and updates it twice by image-to-token
attention. Such an update has a low rank: a cell receives a weighted sum of few vectors, one for
each token and head. So, but for gains and biases, the copy after a block's norm is

    image_b = scale_b * (image_(b-1) + weights_b^T values_b),    image_0: the frame's features

and products with the copy are made of products with these parts. Those with the frame's features
are computed once a frame. The variance that a norm divides by is the mean square of such a sum: it
follows from the parts' mean squares and their products with each other.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from aopsam_ros.models.mobile_sam.attention import HEADS, WIDTH
from aopsam_ros.models.mobile_sam.layers import reshape


class LowRankUpdate(NamedTuple):
    """A block's update of the image features of N prompts, of rank R: heads times tokens.

    Attributes:
        values: vectors `[N, 1, R, 256]`, centred over the channels.
        weights: attention weights `[N, 1, R, cells]`.
        scale: factors `[N, 1, 1, cells]` of the norm that follows.

    The axis of size 1 stands where other tensors have heads.
    """

    values: Tensor
    weights: Tensor
    scale: Tensor


def by_head(x: Tensor) -> Tensor:
    """Map `[8 d, columns]` to `[8, d, columns]`."""
    return reshape(x, HEADS, -1, x.shape[-1])


def project(weight: Tensor, cells: Tensor) -> Tensor:
    """Map the frame's features `[256, cells]` by `[8, d, 256]` to `[8, d, cells]`."""
    # One product for all heads is several times faster than one for each.
    # While tracing, a size taken from a shape is a tensor.
    return reshape(weight.flatten(0, 1) @ cells, HEADS, int(weight.shape[1]), -1)


def merge_rank(x: Tensor) -> Tensor:
    """Map `[N, 8, T, ...]` to `[N, 1, 8 T, ...]`."""
    return reshape(x, 0, 1, -1, 0)


def split_rank(x: Tensor) -> Tensor:
    """Map `[N, 1, 8 T, ...]` to `[N, 8, T, ...]`."""
    return reshape(x, 0, HEADS, -1, 0)


def centred(x: Tensor, channels: int = -1) -> Tensor:
    """Subtract the mean over the channels, as a norm does."""
    return x - x.mean(channels, keepdim=True)


def token_products(
    tokens: Tensor, weight: Tensor, projected: Tensor, updates: Sequence[LowRankUpdate]
) -> Tensor:
    """Multiply tokens with a projection of a prompt's image features.

    Args:
        tokens: `[N, 8, T, d]`.
        weight: of the projection, `[8, d, 256]`.
        projected: the projected features of the frame, `[8, d, cells]`.
        updates: of the blocks so far.

    Returns:
        `[N, 8, T, cells]`.
    """
    folded = merge_rank(tokens @ weight)
    result = tokens @ projected
    for values, weights, scale in updates:
        update = (folded @ values.transpose(2, 3)) @ weights
        result = (result + split_rank(update)) * scale
    return result


def attend(
    weights: Tensor, value: Tensor, value_proj: Tensor, updates: Sequence[LowRankUpdate]
) -> Tensor:
    """Sum a projection of a prompt's image features, weighted by attention.

    Args:
        weights: of the attention, `[N, 8, T, cells]`.
        value: the projected features of the frame, `[8, cells, d]`.
        value_proj: the projection, `[8, 256, d]`.
        updates: of the blocks so far.

    Returns:
        `[N, 8, T, d]`.
    """
    parts = []
    for values, inner, scale in reversed(updates):
        weights = weights * scale
        update = (merge_rank(weights) @ inner.transpose(2, 3)) @ values
        parts.append(split_rank(update) @ value_proj)
    return sum(parts, weights @ value)


def norm_scale(
    variance: Tensor,
    cross_products: Sequence[Tensor],
    updates: Sequence[LowRankUpdate],
    values: Tensor,
    weights: Tensor,
    eps: float,
) -> Tensor:
    """Return the factors by which a norm scales each cell after another update.

    Args:
        variance: of the frame's features, `[cells]`.
        cross_products: of the frame's features and the values of each block, the new one's last, as
            means over the channels: `[N, 1, R, cells]`.
        updates: of the blocks before.
        values: of the new update, `[N, 1, R, 256]`.
        weights: of the new update, `[N, 1, R, cells]`.
        eps: of the norm.

    Returns:
        `[N, 1, 1, cells]`.
    """
    vectors, products = [*(update.values for update in updates), values], list(cross_products)
    for k, update in enumerate(updates):
        variance = _updated_variance(variance, products[k], update.values, update.weights)
        variance = variance * update.scale**2
        for j in range(k + 1, len(vectors)):
            both = vectors[j] @ update.values.transpose(2, 3) / WIDTH
            products[j] = (products[j] + both @ update.weights) * update.scale
    variance = _updated_variance(variance, products[-1], values, weights)
    # Rounding must not make it negative.
    return 1.0 / torch.sqrt(torch.relu(variance) + eps)


def _updated_variance(
    variance: Tensor, cross_products: Tensor, values: Tensor, weights: Tensor
) -> Tensor:
    """Return the variance of `cell + weights^T values` for cells of a known variance."""
    gram = values @ values.transpose(2, 3) / WIDTH
    # (c + w v)^2 = c^2 + w (2 c v + w v v)
    return variance + (weights * (2.0 * cross_products + gram @ weights)).sum(2, keepdim=True)
