"""The attention of a layer and head of the authors' encoder, as an output of our graph.

Attention over the whole image only: that of windows says nothing of other windows. It is computed
once more from the layer's input, as engines with a fused attention never hold it; they merge what
both have in common.
"""

import math
import sys
from dataclasses import replace
from typing import Any

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from aopsam_ros.bundle.loading import AttentionOrigin
from aopsam_ros.errors import OptionError
from aopsam_ros.models.export import BundleParts

MOST_CELLS = 32  # a side; 64 x 64 cells would give 16.8 million numbers, and HDBSCAN a second
PATCH = 16  # pixels of a token: the layers offered come before any pooling beyond


class WithAttention(nn.Module):
    """An encoder that gives the attention of one of its layers beside the embedding."""

    def __init__(self, encoder: nn.Module, layer: str, head: int, side: int) -> None:
        """Wrap an encoder.

        Args:
            encoder: image `[1, 3, S, S]` to embedding.
            layer: name of the attention's module in it; with the authors' `qkv` and `num_heads`.
            head: of that layer.
            side: cells a side that the layer's tokens are pooled to.
        """
        super().__init__()
        self.encoder = encoder
        self.layer, self.head, self.side = layer, head, side

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embedding and the attention `[1, N, N]` of N cells; each row sums to 1."""
        theirs: Any = self.encoder.get_submodule(self.layer)
        kept: list[Tensor] = []
        hook = theirs.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
        embedding = self.encoder(image)
        hook.remove()
        return embedding, self._pool(self._attend(theirs, kept[0]))

    def _attend(self, theirs: Any, tokens: Tensor) -> Tensor:  # noqa: ANN401
        """Return the attention between all tokens, `[1, T, T]`."""
        tokens = tokens.reshape(1, -1, tokens.shape[-1])
        heads = theirs.qkv(tokens).unflatten(-1, (3, theirs.num_heads, -1))
        query, key = heads[:, :, 0, self.head], heads[:, :, 1, self.head]
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(1, 2)
        if hasattr(theirs, "rel_pos_h"):  # SAM's; its function lies beside the class
            shape = (math.isqrt(int(tokens.shape[1])),) * 2
            add_position = sys.modules[type(theirs).__module__].add_decomposed_rel_pos
            position = theirs.rel_pos_h, theirs.rel_pos_w
            scores = add_position(scores, query, *position, shape, shape)
        return scores.softmax(-1)

    def _pool(self, attention: Tensor) -> Tensor:
        """Average over the tokens of a cell that attend, add up over those attended to."""
        tokens = int(attention.shape[-1])
        factor = math.isqrt(tokens) // self.side
        cells = attention
        for scale in (factor**2, 1):
            grid = cells.reshape(1, -1, self.side * factor, self.side * factor)
            cells = F.avg_pool2d(grid, factor).flatten(2).transpose(1, 2) * scale
        return cells


def with_attention(parts: BundleParts, layer: int, head: int) -> BundleParts:
    """Let a bundle's encoder give the attention of a head of one of its blocks, both from 0, too.

    Raises:
        OptionError: if the layer is none whose attention reaches over the whole image, or has no
            such head.
    """
    blocks = [
        (name, block)
        for name, block in parts.encoder.named_modules()
        if {"qkv", "num_heads"} <= set(dir(getattr(block, "attn", None)))
    ]
    offered = [i for i, (_, block) in enumerate(blocks) if not getattr(block, "window_size", 0)]
    if layer not in offered:
        known = f"layers {', '.join(map(str, offered))} do" if offered else "none does"
        raise OptionError(f"no layer {layer} attends to the whole image; of this encoder {known}")
    name, block = blocks[layer]
    heads = block.attn.num_heads
    if not 0 <= head < heads:
        raise OptionError(f"layer {layer} has heads 0 to {heads - 1}, not {head}")
    tokens = parts.image_size // PATCH
    side = max(n for n in range(1, MOST_CELLS + 1) if tokens % n == 0)
    encoder = WithAttention(parts.encoder, f"{name}.attn" if name else "attn", head, side)
    return replace(parts, encoder=encoder, attention=AttentionOrigin(layer, head, side))
