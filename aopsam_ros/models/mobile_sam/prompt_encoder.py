"""SAM's prompt encoder (arXiv 2304.02643, appendix A): points, boxes and masks to tokens."""

import math

import torch
from torch import Tensor, nn

from aopsam_ros.models.mobile_sam.layers import ChannelNorm

WIDTH = 256
STRIDE = 16
MASK_CHANNELS = 16
POINT_KINDS = 4  # background, foreground, first and second corner of a box: the labels 0 to 3


class FourierFeatures(nn.Module):
    """Random Fourier features of positions in the unit square."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, WIDTH // 2))

    def forward(self, position: Tensor) -> Tensor:
        """Map (x, y) `[..., 2]` in 0-1 to `[..., 256]`."""
        phase = (2.0 * position - 1.0) @ self.positional_encoding_gaussian_matrix
        phase = 2.0 * math.pi * phase
        return torch.cat([phase.sin(), phase.cos()], -1)


class PromptEncoder(nn.Module):
    """Prompts on a square of `image_size` pixels a side to what the mask decoder reads."""

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.image_size = image_size
        self.pe_layer = FourierFeatures()
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, WIDTH) for _ in range(POINT_KINDS))
        self.not_a_point_embed = nn.Embedding(1, WIDTH)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, MASK_CHANNELS // 4, 2, 2),
            ChannelNorm(MASK_CHANNELS // 4),
            nn.GELU(),
            nn.Conv2d(MASK_CHANNELS // 4, MASK_CHANNELS, 2, 2),
            ChannelNorm(MASK_CHANNELS),
            nn.GELU(),
            nn.Conv2d(MASK_CHANNELS, WIDTH, 1),
        )
        self.no_mask_embed = nn.Embedding(1, WIDTH)

    def forward(self, coords: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Encode N prompts of K points.

        SAM ends a prompt without a box with one token that is not a point. It is added here, and
        padding is left out of the attention, so that a prompt means the same whatever it is batched
        with: points of different number, points and boxes.

        Args:
            coords: `[N, K, 2]`, x and y in pixels of the encoder's square.
            labels: `[N, K]`: 1 foreground, 0 background, 2 and 3 box corners, -1 padding.

        Returns:
            Tokens `[N, K + 1, 256]`, and `[N, K + 1]`: 1 where a token counts, 0 where not.
        """
        position = self.pe_layer((coords + 0.5) / self.image_size)  # the centre of the pixel
        kinds = torch.arange(POINT_KINDS, dtype=labels.dtype, device=labels.device)
        is_kind = (labels.unsqueeze(-1) == kinds).to(position.dtype)
        points = position + is_kind @ torch.cat([kind.weight for kind in self.point_embeddings])
        is_point = (labels >= 0).to(position.dtype)
        is_boxless = (labels < 2).to(position.dtype).amin(1, keepdim=True)
        end = is_boxless.unsqueeze(-1) * self.not_a_point_embed.weight
        return torch.cat([points, end], 1), torch.cat([is_point, is_boxless], 1)

    def image_position(self) -> Tensor:
        """Encode the centres of the embedding's cells, row by row: `[side * side, 256]`."""
        side = self.image_size // STRIDE
        matrix = self.pe_layer.positional_encoding_gaussian_matrix
        centre = (torch.arange(side, dtype=matrix.dtype, device=matrix.device) + 0.5) / side
        across = centre.expand(side, side)
        return self.pe_layer(torch.stack([across, across.T], -1).flatten(0, 1))
