"""The two-way transformer of SAM's mask decoder (arXiv 2304.02643, appendix A).

There are few tokens and thousands of image cells. In cross-attention, the projection of the cells
is therefore folded into the tokens: `q · (W x)` is `(Wᵀ q) · x`. With seven tokens of eight heads
that is less than half the arithmetic, and the cells are never rearranged into heads.

`positioned` tokens and images have their positional encodings added. `padding_bias` is added to the
attention scores of tokens: 0, or a large negative number for padding.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from aopsam_ros.models.mobile_sam.layers import reshape

WIDTH = 256
HEADS = 8
MLP_WIDTH = 2048


class MultiHead(nn.Module):
    """The projections of a multi-head attention of `inner` channels."""

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

    def merge_heads(self, x: Tensor) -> Tensor:
        """Map `[N, heads, T, d]` to `[N, T, 256]`."""
        return self.out_proj(reshape(x.transpose(1, 2), 0, 0, -1))

    def _by_head(self, projection: nn.Linear) -> Tensor:
        """Return a projection's weight as `[heads, d, 256]`."""
        return projection.weight.reshape(HEADS, -1, WIDTH)


class TokenAttention(MultiHead):
    """Self-attention of the tokens."""

    def forward(self, positioned: Tensor, tokens: Tensor, padding_bias: Tensor) -> Tensor:
        """Attend among tokens `[N, T, 256]`, with `padding_bias` `[N, 1, 1, T]`."""
        query = self.split_heads(self.q_proj(positioned)) * self.scale
        key = self.split_heads(self.k_proj(positioned))
        weights = torch.softmax(query @ key.transpose(-1, -2) + padding_bias, -1)
        return self.merge_heads(weights @ self.split_heads(self.v_proj(tokens)))


class TokenToImageAttention(MultiHead):
    """Cross-attention from the tokens to the image."""

    def forward(self, positioned: Tensor, positioned_image: Tensor, image: Tensor) -> Tensor:
        """Attend from tokens `[N, T, 256]` to cells `[1 or N, cells, 256]`.

        The keys' bias adds the same to every cell's score, which the softmax cancels: it is left
        out.
        """
        query = self.split_heads(self.q_proj(positioned)) * self.scale
        query = reshape(query @ self._by_head(self.k_proj), 0, -1, WIDTH)
        weights = torch.softmax(query @ positioned_image.transpose(1, 2), -1)
        attended = reshape(weights @ image, 0, HEADS, -1, WIDTH)
        value = attended @ self._by_head(self.v_proj).transpose(1, 2)
        return self.merge_heads(value + self.v_proj.bias.reshape(HEADS, 1, -1))


class ImageToTokenAttention(MultiHead):
    """Cross-attention from the image to the tokens."""

    def forward(
        self, positioned_image: Tensor, positioned: Tensor, tokens: Tensor, padding_bias: Tensor
    ) -> Tensor:
        """Attend from cells `[1 or N, cells, 256]` to tokens `[N, T, 256]`."""
        key = self.split_heads(self.k_proj(positioned)) * self.scale
        bias = (key @ self.q_proj.bias.reshape(HEADS, -1, 1)).transpose(2, 3) + padding_bias
        key = reshape(key @ self._by_head(self.q_proj), 0, -1, WIDTH)
        scores = positioned_image @ key.transpose(1, 2) + reshape(bias, 0, 1, -1)
        # One softmax a head, over its tokens.
        weights = torch.softmax(reshape(scores, 0, 0, HEADS, -1), -1)
        out = self.out_proj.weight.T.reshape(HEADS, -1, WIDTH)
        # A head's weights sum to 1: its share of the bias reaches every cell through them.
        values = self.split_heads(self.v_proj(tokens)) @ out + self.out_proj.bias / HEADS
        return reshape(weights, 0, 0, -1) @ reshape(values, 0, -1, WIDTH)


class TwoWayBlock(nn.Module):
    """Token self-attention, token-to-image attention, MLP, and image-to-token attention."""

    def __init__(self, is_first: bool) -> None:
        super().__init__()
        self.is_first = is_first
        self.self_attn = TokenAttention(WIDTH)
        self.norm1 = nn.LayerNorm(WIDTH)
        self.cross_attn_token_to_image = TokenToImageAttention(WIDTH // 2)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.mlp = nn.ModuleDict(
            {"lin1": nn.Linear(WIDTH, MLP_WIDTH), "lin2": nn.Linear(MLP_WIDTH, WIDTH)}
        )
        self.norm3 = nn.LayerNorm(WIDTH)
        self.norm4 = nn.LayerNorm(WIDTH)
        self.cross_attn_image_to_token = ImageToTokenAttention(WIDTH // 2)

    def forward(
        self,
        tokens: Tensor,
        image: Tensor,
        position: Tensor,
        image_position: Tensor,
        padding_bias: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Update tokens `[N, T, 256]` and image `[1 or N, cells, 256]`."""
        tokens = self.self_attend(tokens, position, padding_bias)
        positioned_image = image + image_position
        attended = self.cross_attn_token_to_image(tokens + position, positioned_image, image)
        tokens = self.update_tokens(tokens, attended)
        update = self.cross_attn_image_to_token(
            positioned_image, tokens + position, tokens, padding_bias
        )
        return tokens, self.norm4(image + update)

    def self_attend(self, tokens: Tensor, position: Tensor, padding_bias: Tensor) -> Tensor:
        """Apply self-attention and its norm to tokens `[N, T, 256]`."""
        if self.is_first:
            # The first block's tokens are their own positions, and it has no residual connection.
            return self.norm1(self.self_attn(tokens, tokens, padding_bias))
        return self.norm1(tokens + self.self_attn(tokens + position, tokens, padding_bias))

    def update_tokens(self, tokens: Tensor, attended: Tensor) -> Tensor:
        """Add the result of token-to-image attention to tokens `[N, T, 256]`; apply the MLP."""
        tokens = self.norm2(tokens + attended)
        hidden = F.relu(self.mlp["lin1"](tokens))
        return self.norm3(tokens + self.mlp["lin2"](hidden))


class TwoWayTransformer(nn.Module):
    """Two blocks, then a last attention from the tokens to the image."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([TwoWayBlock(True), TwoWayBlock(False)])
        self.final_attn_token_to_image = TokenToImageAttention(WIDTH // 2)
        self.norm_final_attn = nn.LayerNorm(WIDTH)

    def forward(
        self, tokens: Tensor, image: Tensor, image_position: Tensor, padding_bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Run the transformer.

        Args:
            tokens: `[N, T, 256]`.
            image: `[1 or N, cells, 256]`; one image for all prompts is projected only once.
            image_position: `[cells, 256]`.
            padding_bias: `[N, 1, 1, T]`.

        Returns:
            Tokens `[N, T, 256]` and each prompt's image `[N, cells, 256]`.
        """
        position = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, position, image_position, padding_bias)
        attended = self.final_attn_token_to_image(tokens + position, image + image_position, image)
        return self.norm_final_attn(tokens + attended), image
