"""Attention between tokens and a prompt's image, with all that does not change folded in.

Gain and bias of the norm that made the image go into the projections that follow it. Positions and
biases meet the tokens in a map of their own, `place`. It is the whole square's: an image that fills
only a part of that, top left, meets its own part.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from aopsam_ros.models.mobile_sam.attention import HEADS, WIDTH, ReadImage, WriteImage
from aopsam_ros.models.mobile_sam.layers import crop, reshape
from aopsam_ros.models.mobile_sam.prompt_image import (
    Written,
    by_head,
    centred,
    in_rows,
    mean_of,
    means,
    products,
    project,
)

Tensors = tuple[Tensor, ...]


class Affine:
    """Gain and bias `[256]` of the norm that made an image; the frame's own comes without."""

    def __init__(self, norm: nn.LayerNorm | None, like: Tensor) -> None:
        self.gain = like.new_ones(WIDTH) if norm is None else norm.weight.detach()
        self.bias = like.new_zeros(WIDTH) if norm is None else norm.bias.detach()


class Asking(nn.Module):
    """A projection of the cells, multiplied with tokens.

    Args:
        weight: `[8 d, 256]`.
        bias: `[8 d]`.
        norm: that made the image; None in the first block.
        position: of the square's cells, `[side, side, 256]`.
    """

    ask: Tensor
    place: Tensor

    def __init__(
        self, weight: Tensor, bias: Tensor, norm: nn.LayerNorm | None, position: Tensor
    ) -> None:
        super().__init__()
        self.is_first = norm is None
        affine = Affine(norm, position)
        self.register_buffer("ask", by_head(weight.detach() * affine.gain))
        place = (position + affine.bias) @ weight.detach().T + bias
        self.register_buffer("place", place.permute(2, 0, 1).unflatten(0, (HEADS, -1)))

    def project(self, cells: Tensor, embedding: Tensor) -> Tensors:
        """Map the frame's image `[256, cells]` to `[8, d, cells]`, and give its cells' places.

        `embedding` `[1, 256, h, w]` has the image's sides.
        """
        projected = project(self.ask, cells)
        place = reshape(crop(self.place, embedding, 2), 0, 0, -1)
        # Nothing has been written before the first block: there, the sum is all prompts' own.
        return (projected + place,) if self.is_first else (projected, place)

    def forward(self, tokens: Tensor, projected: Tensors, written: Sequence[Written]) -> Tensor:
        """Multiply tokens `[N, 8, T, d]` with a prompt's image: `[N, 8, T, cells]`."""
        if self.is_first:
            return tokens @ projected[0]
        image, place = projected
        return products(tokens, self.ask, image, written) + tokens @ place


class FoldedRead(nn.Module):
    """Tokens look at a prompt's image; see `ReadImage`, `Asking`."""

    tell: Tensor
    rest: Tensor

    def __init__(self, read: ReadImage, norm: nn.LayerNorm | None, position: Tensor) -> None:
        super().__init__()
        self.read = read
        # The keys' bias adds the same to every cell's score: the softmax takes it out again.
        no_bias = position.new_zeros(len(read.k_proj.weight))
        self.keys = Asking(read.k_proj.weight, no_bias, norm, position)
        affine, weight = Affine(norm, position), read.v_proj.weight.detach()
        self.register_buffer("tell", by_head(weight * affine.gain).transpose(1, 2))
        rest = weight @ affine.bias + read.v_proj.bias.detach()
        self.register_buffer("rest", rest.reshape(HEADS, 1, -1))

    def project(self, cells: Tensor, embedding: Tensor) -> Tensors:
        """Map the frame's image `[256, cells]` to values `[8, cells, d]` and keys; see `Asking`."""
        values = project(self.tell.transpose(1, 2), cells)
        return values.transpose(1, 2), *self.keys.project(cells, embedding)

    def forward(
        self, placed: Tensor, value: Tensor, key: Tensors, written: Sequence[Written]
    ) -> Tensor:
        """Attend from tokens `[N, T, 256]`, their positions added, to the cells."""
        query = self.read.split_heads(self.read.q_proj(placed)) * self.read.scale
        weights = torch.softmax(self.keys(query, key, written), -1)
        return self.read.merge(means(weights, value, self.tell, written) + self.rest)


class FoldedWrite(nn.Module):
    """A prompt's image looks at the tokens; see `WriteImage`, `Asking`.

    A channel more a head is 1 everywhere: of the cells it takes what a token that is absent adds to
    its score, of the values the biases.
    """

    tell: Tensor

    def __init__(self, write: WriteImage, norm: nn.LayerNorm | None, position: Tensor) -> None:
        super().__init__()
        self.write = write
        weight = F.pad(by_head(write.q_proj.weight.detach()), (0, 0, 0, 1)).flatten(0, 1)
        bias = F.pad(write.q_proj.bias.detach().reshape(HEADS, -1), (0, 1), value=1.0).flatten()
        self.queries = Asking(weight, bias, norm, position)
        out = by_head(write.out_proj.weight.detach().T)
        # A head's weights sum to 1 in every cell: with them, its share of what is added to all.
        share = (Affine(norm, position).bias + write.out_proj.bias.detach()) / HEADS
        tell = torch.cat([out, share.expand(HEADS, 1, -1)], 1)
        self.register_buffer("tell", centred(tell))

    def project(self, cells: Tensor, embedding: Tensor) -> Tensors:
        """Map the frame's image `[256, cells]` to queries; see `Asking`."""
        return self.queries.project(cells, embedding)

    def meet(self, cells: Tensor) -> Tensor:
        """Return the products of the frame's image with what values are told by; see `mean_of`."""
        return mean_of(project(self.tell, cells))

    def forward(
        self,
        placed: Tensor,
        tokens: Tensor,
        absent: Tensor,
        query: Tensors,
        written: Sequence[Written],
    ) -> tuple[Tensor, Tensor]:
        """Attend from the cells to tokens `[N, T, 256]`.

        Args:
            placed: the tokens, their positions added.
            tokens: the tokens.
            absent: added to their scores, `[N, T]`.
            query: from `project`.
            written: by the blocks before.

        Returns:
            Weights `[N, 1, 8 T, cells]` and values `[N, 8, T, d]`, which `tell` makes vectors of.
        """
        key = self.write.split_heads(self.write.k_proj(placed)) * self.write.scale
        value = self.write.split_heads(self.write.v_proj(tokens))
        one = value[..., :1] * 0.0 + 1.0
        key = torch.cat([key, one * absent.unsqueeze(1).unsqueeze(-1)], -1)
        weights = _softmax_over_tokens(self.queries(key, query, written))
        return in_rows(weights), torch.cat([value, one], -1)


def _softmax_over_tokens(scores: Tensor) -> Tensor:
    """Softmax over the last but one axis; engines turn the array around for their own."""
    powers = torch.exp(scores - scores.amax(-2, keepdim=True))
    return powers / powers.sum(-2, keepdim=True)
