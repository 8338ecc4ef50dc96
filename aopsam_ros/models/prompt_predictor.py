"""The Prompt Predictor: image and embedding to the Prompt Confidence Map (PCM)."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

IMAGE_CHANNELS = (12, 16, 16)
EMBEDDING_CHANNELS = 32
MAP_STRIDE = 4


class PromptPredictor(nn.Module):
    """Two branches, concatenated and narrowed to one map (AoP-SAM, arXiv 2505.11980).

    The image branch is three convolutions with ReLU, the embedding branch brings SAM's embedding to
    32 channels at the same size. Widths, strides and the map's resolution are this project's: the
    paper publishes none.
    """

    def __init__(self, embedding_channels: int) -> None:
        super().__init__()
        first, second, third = IMAGE_CHANNELS
        self.image_branch = nn.Sequential(
            nn.Conv2d(3, first, 3, 2, 1), nn.ReLU(),
            nn.Conv2d(first, second, 3, 2, 1), nn.ReLU(),
            nn.Conv2d(second, third, 3, 1, 1), nn.ReLU(),
        )  # fmt: skip
        # Narrowed before it is enlarged: the other order costs three times as much.
        self.embedding_branch = nn.Sequential(
            nn.Conv2d(embedding_channels, EMBEDDING_CHANNELS, 1), nn.ReLU(),
            nn.Conv2d(EMBEDDING_CHANNELS, EMBEDDING_CHANNELS, 3, 1, 1), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Sequential(
            nn.Conv2d(third + EMBEDDING_CHANNELS, 24, 3, 1, 1), nn.ReLU(),
            nn.Conv2d(24, 16, 3, 1, 1), nn.ReLU(),
            nn.Conv2d(16, 1, 1),
        )  # fmt: skip
        nn.init.constant_(self.head[-1].bias, -3.0)  # most of a target map is close to zero

    def logits(self, image: Tensor, embedding: Tensor) -> Tensor:
        """The map before the sigmoid, `[B, 1, S/4, S/4]`."""
        seen = self.image_branch(image)
        meaning = self.embedding_branch(embedding)
        meaning = F.interpolate(meaning, size=seen.shape[-2:], mode="bilinear", align_corners=False)
        return self.head(torch.cat([seen, meaning], 1))

    def forward(self, image: Tensor, embedding: Tensor) -> Tensor:
        """Map image `[B, 3, S, S]`, embedding `[B, C, h, w]` to confidence `[B, 1, S/4, S/4]`."""
        return torch.sigmoid(self.logits(image, embedding))
