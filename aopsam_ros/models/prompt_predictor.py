"""The Prompt Predictor: image and embedding to the Prompt Confidence Map (PCM) and extents."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

IMAGE_CHANNELS = (12, 16, 16)
TRUNK_CHANNELS = 64
TRUNK_BLOCKS = 3
MAP_STRIDE = 4
# Extents are exponentials: of the network's output around this many image widths.
EXTENT_UNIT = 0.06
LARGEST_EXPONENT = 3.0


class TrunkBlock(nn.Module):
    """Residual depthwise block at stride 8."""

    def __init__(self) -> None:
        super().__init__()
        channels = TRUNK_CHANNELS
        self.spatial = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.expand = nn.Conv2d(channels, 2 * channels, 1)
        self.project = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape `[B, 64, h, w]`."""
        return x + self.project(F.relu(self.expand(self.spatial(x))))


class PromptPredictor(nn.Module):
    """An image branch and an embedding branch, concatenated and narrowed to the maps.

    The image branch is three convolutions with ReLU, the embedding branch brings SAM's embedding to
    few channels (AoP-SAM, arXiv 2505.11980). Widths, strides and the map's resolution are this
    project's: the paper publishes none. So is the second head: the extents of the object at each
    place.
    """

    def __init__(self, embedding_channels: int) -> None:
        super().__init__()
        first, second, third = IMAGE_CHANNELS
        self.image_branch = nn.Sequential(
            nn.Conv2d(3, first, 3, 2, 1), nn.ReLU(),
            nn.Conv2d(first, second, 3, 2, 1), nn.ReLU(),
            nn.Conv2d(second, third, 3, 1, 1), nn.ReLU(),
        )  # fmt: skip
        # From stride 16 to stride 8: four places of each cell, next to each other in the channels.
        self.embedding_in = nn.Conv2d(embedding_channels, 4 * TRUNK_CHANNELS, 1)
        self.trunk = nn.Sequential(*(TrunkBlock() for _ in range(TRUNK_BLOCKS)))
        self.embedding_out = nn.Conv2d(TRUNK_CHANNELS, 24, 1)
        self.head = nn.Sequential(
            nn.Conv2d(third + 24, 24, 3, 1, 1), nn.ReLU(),
            nn.Conv2d(24, 16, 3, 1, 1), nn.ReLU(),
            nn.Conv2d(16, 1, 1),
        )  # fmt: skip
        nn.init.constant_(self.head[-1].bias, -3.0)  # most of a target map is close to zero
        self.extent_head = nn.Sequential(
            nn.Conv2d(TRUNK_CHANNELS, TRUNK_CHANNELS, 1), nn.ReLU(),
            nn.Conv2d(TRUNK_CHANNELS, 4, 3, 1, 1),
        )  # fmt: skip

    def forward(self, image: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Predict where to prompt, and how far the object at each place reaches.

        Args:
            image: normalised, `[B, 3, S, S]`.
            embedding: `[B, C, S/16, S/16]`.

        Returns:
            Confidence `[B, 1, S/4, S/4]` in 0-1, and extents `[B, 4, S/4, S/4]`: distances to the
            left, top, right and bottom of the object, in sides of the padded square.
        """
        coarse, log_extents = self.coarse(embedding)
        confidence = torch.sigmoid(self.logits(image, coarse))
        size = confidence.shape[-2:]
        extents = F.interpolate(
            EXTENT_UNIT * torch.exp(log_extents), size=size, mode="bilinear", align_corners=False
        )
        return confidence, extents

    def coarse(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Return the trunk's features `[B, 64, S/8, S/8]` and the extents' logarithms there."""
        trunk = self.trunk(F.pixel_shuffle(self.embedding_in(embedding), 2))
        return trunk, self.extent_head(trunk).clamp(-LARGEST_EXPONENT, LARGEST_EXPONENT)

    def logits(self, image: Tensor, coarse: Tensor) -> Tensor:
        """The confidence map before the sigmoid, `[B, 1, S/4, S/4]`."""
        seen = self.image_branch(image)
        meaning = F.interpolate(
            self.embedding_out(coarse), size=seen.shape[-2:], mode="bilinear", align_corners=False
        )
        return self.head(torch.cat([seen, F.relu(meaning)], 1))
