"""The two-way transformer of SAM's mask decoder (arXiv 2304.02643, appendix A).

Tokens are few, the image's cells are thousands. Between the two, a projection of the cells is done
on the tokens' side instead: `q · (W x)` is `(Wᵀ q) · x`. With seven tokens of eight heads that is
less than half the arithmetic, and the cells are never rearranged into heads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from aopsam_ros.models.mobile_sam.layers import reshape

WIDTH = 256
HEADS = 8
MLP_WIDTH = 2048


class MultiHead(nn.Module):
    """The weights of a multi-head attention of `inner` channels."""

    def __init__(self, inner: int) -> None:
        super().__init__()
        self.scale = (inner // HEADS) ** -0.5
        self.q_proj = nn.Linear(WIDTH, inner)
        self.k_proj = nn.Linear(WIDTH, inner)
        self.v_proj = nn.Linear(WIDTH, inner)
        self.out_proj = nn.Linear(inner, WIDTH)

    def split_heads(self, x: Tensor) -> Tensor:
        """Map `[N, T, inner]` to `[N, heads, T, d]`."""
        return reshape(x, 0, 0, HEADS, -1).transpose(1, 2)

    def merge(self, x: Tensor) -> Tensor:
        """Map `[N, heads, T, d]` to `[N, T, 256]`."""
        return self.out_proj(reshape(x.transpose(1, 2), 0, 0, -1))

    def _by_head(self, projection: nn.Linear) -> Tensor:
        """Return a projection's weight as `[heads, d, 256]`."""
        return projection.weight.reshape(HEADS, -1, WIDTH)


class TokenAttention(MultiHead):
    """Tokens look at each other."""

    def forward(self, placed: Tensor, tokens: Tensor, absent: Tensor) -> Tensor:
        """Attend among tokens `[N, T, 256]`; `placed` has their positions added.

        `absent` `[N, 1, 1, T]` is added to the scores.
        """
        query = self.split_heads(self.q_proj(placed)) * self.scale
        key = self.split_heads(self.k_proj(placed))
        weights = torch.softmax(query @ key.transpose(-1, -2) + absent, -1)
        return self.merge(weights @ self.split_heads(self.v_proj(tokens)))


class ReadImage(MultiHead):
    """Tokens look at the image."""

    def forward(self, placed: Tensor, located: Tensor, image: Tensor) -> Tensor:
        """Attend from tokens `[N, T, 256]` to cells `[1 or N, cells, 256]`.

        `placed` and `located` have their positions added. The keys' bias adds the same to every
        cell's score, so the softmax takes it out again: it is not computed.
        """
        query = self.split_heads(self.q_proj(placed)) * self.scale
        asked = reshape(query @ self._by_head(self.k_proj), 0, -1, WIDTH)
        weights = torch.softmax(asked @ located.transpose(1, 2), -1)
        seen = reshape(weights @ image, 0, HEADS, -1, WIDTH)
        value = seen @ self._by_head(self.v_proj).transpose(1, 2)
        return self.merge(value + self.v_proj.bias.reshape(HEADS, 1, -1))


class WriteImage(MultiHead):
    """The image looks at the tokens."""

    def forward(self, located: Tensor, placed: Tensor, tokens: Tensor, absent: Tensor) -> Tensor:
        """Attend from cells `[1 or N, cells, 256]` to tokens `[N, T, 256]`, some of them absent."""
        key = self.split_heads(self.k_proj(placed)) * self.scale
        asked = reshape(key @ self._by_head(self.q_proj), 0, -1, WIDTH)
        bias = (key @ self.q_proj.bias.reshape(HEADS, -1, 1)).transpose(2, 3) + absent
        scores = located @ asked.transpose(1, 2) + reshape(bias, 0, 1, -1)
        # One softmax a head, over its tokens.
        weights = torch.softmax(reshape(scores, 0, 0, HEADS, -1), -1)
        out = self.out_proj.weight.T.reshape(HEADS, -1, WIDTH)
        # A head's weights sum to 1: its share of the bias reaches every cell through them.
        told = self.split_heads(self.v_proj(tokens)) @ out + self.out_proj.bias / HEADS
        return reshape(weights, 0, 0, -1) @ reshape(told, 0, -1, WIDTH)


class TwoWayBlock(nn.Module):
    """Tokens talk to each other, look at the image, think, and write back into the image."""

    def __init__(self, is_first: bool) -> None:
        super().__init__()
        self.is_first = is_first
        self.self_attn = TokenAttention(WIDTH)
        self.norm1 = nn.LayerNorm(WIDTH)
        self.cross_attn_token_to_image = ReadImage(WIDTH // 2)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.mlp = nn.ModuleDict(
            {"lin1": nn.Linear(WIDTH, MLP_WIDTH), "lin2": nn.Linear(MLP_WIDTH, WIDTH)}
        )
        self.norm3 = nn.LayerNorm(WIDTH)
        self.norm4 = nn.LayerNorm(WIDTH)
        self.cross_attn_image_to_token = WriteImage(WIDTH // 2)

    def forward(
        self,
        tokens: Tensor,
        image: Tensor,
        position: Tensor,
        image_position: Tensor,
        absent: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Update tokens `[N, T, 256]` and image `[1 or N, cells, 256]`."""
        tokens = self.talk(tokens, position, absent)
        located = image + image_position
        seen = self.cross_attn_token_to_image(tokens + position, located, image)
        tokens = self.think(tokens, seen)
        told = self.cross_attn_image_to_token(located, tokens + position, tokens, absent)
        return tokens, self.norm4(image + told)

    def talk(self, tokens: Tensor, position: Tensor, absent: Tensor) -> Tensor:
        """Let tokens `[N, T, 256]` look at each other."""
        if self.is_first:
            # The tokens are still their own positions: nothing is added, and nothing kept.
            return self.norm1(self.self_attn(tokens, tokens, absent))
        return self.norm1(tokens + self.self_attn(tokens + position, tokens, absent))

    def think(self, tokens: Tensor, seen: Tensor) -> Tensor:
        """Add to tokens `[N, T, 256]` what they saw, and then what they make of it."""
        tokens = self.norm2(tokens + seen)
        hidden = F.relu(self.mlp["lin1"](tokens))
        return self.norm3(tokens + self.mlp["lin2"](hidden))


class TwoWayTransformer(nn.Module):
    """Two blocks, and a last look of the tokens at the image."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([TwoWayBlock(True), TwoWayBlock(False)])
        self.final_attn_token_to_image = ReadImage(WIDTH // 2)
        self.norm_final_attn = nn.LayerNorm(WIDTH)

    def forward(
        self, tokens: Tensor, image: Tensor, image_position: Tensor, absent: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Run the transformer.

        Args:
            tokens: `[N, T, 256]`.
            image: `[1 or N, cells, 256]`; one image for all prompts is projected only once.
            image_position: `[cells, 256]`.
            absent: `[N, 1, 1, T]`, 0 or, for a token that does not count, a large negative number.

        Returns:
            Tokens `[N, T, 256]` and each prompt's image `[N, cells, 256]`.
        """
        position = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, position, image_position, absent)
        seen = self.final_attn_token_to_image(tokens + position, image + image_position, image)
        return self.norm_final_attn(tokens + seen), image
