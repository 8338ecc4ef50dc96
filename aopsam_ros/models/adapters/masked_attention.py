"""The authors' two-way transformer for prompts of different length in one batch.

It knows no padding: its attention is given a bias here that keeps tokens out, so that a prompt
means the same whatever it is batched with.
"""

from typing import Any

import torch
from torch import Tensor, nn

from aopsam_ros.models.mobile_sam.mask_decoder import PADDING_BIAS


class MaskedAttention(nn.Module):
    """An attention of the authors whose keys are tokens, some of which are padding."""

    def __init__(self, attention: Any) -> None:  # noqa: ANN401  (the authors' class)
        super().__init__()
        self.attention = attention
        self.bias: Tensor | None = None  # `[N, 1, 1, T]`, of the next call

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend from `[N, Q, C]` to tokens `[N, T, C]`."""
        theirs, bias = self.attention, self.bias
        assert bias is not None
        heads = [
            theirs._separate_heads(projection(x), theirs.num_heads)
            for projection, x in ((theirs.q_proj, q), (theirs.k_proj, k), (theirs.v_proj, v))
        ]
        query, key, value = heads
        scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5) + bias
        return theirs.out_proj(theirs._recombine_heads(torch.softmax(scores, -1) @ value))


class MaskedTransformer(nn.Module):
    """The authors' transformer with `MaskedAttention` where keys are tokens."""

    def __init__(self, transformer: Any) -> None:  # noqa: ANN401  (the authors' class)
        super().__init__()
        self.transformer = transformer
        self.masked: list[MaskedAttention] = []
        for layer in transformer.layers:
            for name in ("self_attn", "cross_attn_image_to_token"):
                masked = MaskedAttention(getattr(layer, name))
                setattr(layer, name, masked)
                self.masked.append(masked)

    def forward(
        self, image: Tensor, image_position: Tensor, tokens: Tensor, is_present: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Run the transformer.

        Args:
            image: `[N, C, h, w]`.
            image_position: `[1, C, h, w]`.
            tokens: `[N, T, C]`.
            is_present: `[N, T]`, 1 for tokens and 0 for padding.

        Returns:
            Tokens `[N, T, C]` and image `[N, h w, C]`.
        """
        bias = ((1.0 - is_present) * PADDING_BIAS).unsqueeze(1).unsqueeze(1)
        for masked in self.masked:
            masked.bias = bias
        found: tuple[Tensor, Tensor] = self.transformer(image, image_position, tokens)
        return found
