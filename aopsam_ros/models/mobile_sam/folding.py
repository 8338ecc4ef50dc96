"""Attention between tokens and a prompt's image features, with all constants folded in.

Gain and bias of the norm before go into the projections that follow it. Positional encodings and
biases become a constant map, `position_bias`, of the whole square; an image that fills only a part
of the square, top left, uses that part.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from aopsam_ros.models.mobile_sam.attention import (
    HEADS,
    WIDTH,
    ImageToTokenAttention,
    TokenToImageAttention,
)
from aopsam_ros.models.mobile_sam.layers import crop, reshape
from aopsam_ros.models.mobile_sam.low_rank import (
    LowRankUpdate,
    attend,
    by_head,
    centred,
    merge_rank,
    project,
    token_products,
)

Projected = tuple[Tensor, ...]


def affine(norm: nn.LayerNorm | None, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return gain and bias `[256]` of the norm before; the first block has none: 1 and 0."""
    if norm is None:
        return like.new_ones(WIDTH), like.new_zeros(WIDTH)
    return norm.weight.detach(), norm.bias.detach()


class FoldedProjection(nn.Module):
    """A projection of the image features, to be multiplied with tokens.

    Args:
        weight: `[8 d, 256]`.
        bias: `[8 d]`.
        norm: the norm before; None in the first block.
        position: positional encodings of the square's cells, `[side, side, 256]`.
    """

    weight: Tensor
    position_bias: Tensor

    def __init__(
        self, weight: Tensor, bias: Tensor, norm: nn.LayerNorm | None, position: Tensor
    ) -> None:
        super().__init__()
        self.is_first = norm is None
        gain, shift = affine(norm, position)
        self.register_buffer("weight", by_head(weight.detach() * gain))
        position_bias = (position + shift) @ weight.detach().T + bias
        position_bias = position_bias.permute(2, 0, 1).unflatten(0, (HEADS, -1))
        self.register_buffer("position_bias", position_bias)

    def project(self, cells: Tensor, embedding: Tensor) -> Projected:
        """Project the frame's features `[256, cells]`, whose sides are those of `embedding`.

        Returns:
            Projected features and position bias, `[8, d, cells]` each; in the first block, whose
            features have no updates yet, their sum.
        """
        projected = project(self.weight, cells)
        position_bias = reshape(crop(self.position_bias, embedding, 2), 0, 0, -1)
        return (projected + position_bias,) if self.is_first else (projected, position_bias)

    def forward(
        self, tokens: Tensor, projected: Projected, updates: Sequence[LowRankUpdate]
    ) -> Tensor:
        """Multiply tokens `[N, 8, T, d]` with a prompt's features: `[N, 8, T, cells]`."""
        if self.is_first:
            return tokens @ projected[0]
        features, position_bias = projected
        return token_products(tokens, self.weight, features, updates) + tokens @ position_bias


class FoldedTokenToImage(nn.Module):
    """Cross-attention from tokens to a prompt's features; see `TokenToImageAttention`."""

    value_proj: Tensor
    value_bias: Tensor

    def __init__(
        self, attention: TokenToImageAttention, norm: nn.LayerNorm | None, position: Tensor
    ) -> None:
        super().__init__()
        self.attention = attention
        # The keys' bias adds the same to every cell's score: the softmax cancels it.
        no_bias = position.new_zeros(len(attention.k_proj.weight))
        self.keys = FoldedProjection(attention.k_proj.weight, no_bias, norm, position)
        (gain, shift), weight = affine(norm, position), attention.v_proj.weight.detach()
        self.register_buffer("value_proj", by_head(weight * gain).transpose(1, 2))
        value_bias = weight @ shift + attention.v_proj.bias.detach()
        self.register_buffer("value_bias", value_bias.reshape(HEADS, 1, -1))

    def project(self, cells: Tensor, embedding: Tensor) -> Projected:
        """Map the frame's features `[256, cells]` to values `[8, cells, d]` and folded keys."""
        values = project(self.value_proj.transpose(1, 2), cells)
        return values.transpose(1, 2), *self.keys.project(cells, embedding)

    def forward(
        self, positioned: Tensor, value: Tensor, key: Projected, updates: Sequence[LowRankUpdate]
    ) -> Tensor:
        """Attend from tokens `[N, T, 256]`, their positions added, to the cells."""
        attention = self.attention
        query = attention.split_heads(attention.q_proj(positioned)) * attention.scale
        weights = torch.softmax(self.keys(query, key, updates), -1)
        attended = attend(weights, value, self.value_proj, updates)
        return attention.merge_heads(attended + self.value_bias)


class FoldedImageToToken(nn.Module):
    """Cross-attention from a prompt's features to tokens; see `ImageToTokenAttention`.

    Each head has one more channel, which is 1 everywhere: in queries it carries the padding bias of
    the tokens, in values the output bias.
    """

    value_proj: Tensor

    def __init__(
        self, attention: ImageToTokenAttention, norm: nn.LayerNorm | None, position: Tensor
    ) -> None:
        super().__init__()
        self.attention = attention
        q_proj = attention.q_proj
        weight = F.pad(by_head(q_proj.weight.detach()), (0, 0, 0, 1)).flatten(0, 1)
        bias = F.pad(q_proj.bias.detach().reshape(HEADS, -1), (0, 1), value=1.0).flatten()
        self.queries = FoldedProjection(weight, bias, norm, position)
        out = by_head(attention.out_proj.weight.detach().T)
        # A head's weights sum to 1 in every cell, so its share of a bias reaches every cell.
        share = (affine(norm, position)[1] + attention.out_proj.bias.detach()) / HEADS
        value_proj = torch.cat([out, share.expand(HEADS, 1, -1)], 1)
        self.register_buffer("value_proj", centred(value_proj))

    def cross_products(self, cells: Tensor) -> Tensor:
        """Multiply the frame's features `[256, cells]` with `value_proj`: means over channels."""
        return project(self.value_proj, cells) / WIDTH

    def forward(
        self,
        positioned: Tensor,
        tokens: Tensor,
        padding_bias: Tensor,
        query: Projected,
        updates: Sequence[LowRankUpdate],
    ) -> tuple[Tensor, Tensor]:
        """Attend from the cells to tokens `[N, T, 256]`.

        Args:
            positioned: the tokens with their positions added.
            tokens: the tokens.
            padding_bias: added to the scores, `[N, T]`.
            query: from `queries.project`.
            updates: of the blocks before.

        Returns:
            Weights `[N, 1, 8 T, cells]` and values `[N, 8, T, d]`, to be projected by `value_proj`.
        """
        attention = self.attention
        key = attention.split_heads(attention.k_proj(positioned)) * attention.scale
        value = attention.split_heads(attention.v_proj(tokens))
        one = value[..., :1] * 0.0 + 1.0
        key = torch.cat([key, one * padding_bias.unsqueeze(1).unsqueeze(-1)], -1)
        weights = _softmax_over_tokens(self.queries(key, query, updates))
        return merge_rank(weights), torch.cat([value, one], -1)


def _softmax_over_tokens(scores: Tensor) -> Tensor:
    """Apply softmax over the last but one axis; engines would transpose for their own operator."""
    powers = torch.exp(scores - scores.amax(-2, keepdim=True))
    return powers / powers.sum(-2, keepdim=True)
