"""SAM's mask decoder (arXiv 2304.02643, appendix A): tokens and image to masks."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from aopsam_ros.models.mobile_sam.attention import WIDTH, TwoWayTransformer
from aopsam_ros.models.mobile_sam.layers import CHANNEL_NORM_EPS

MASKS = 4  # one for an unambiguous prompt, then three alternatives
ABSENT = -1e4  # added to a score: its weight is exactly 0, and the number fits in 16 bits


class Perceptron(nn.Module):
    """Three linear layers with ReLU between them."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        sizes = ((WIDTH, WIDTH), (WIDTH, WIDTH), (WIDTH, outputs))
        self.layers = nn.ModuleList(nn.Linear(*size) for size in sizes)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., 256]` to `[..., outputs]`."""
        first, second, last = self.layers
        return last(F.relu(second(F.relu(first(x)))))


class MaskDecoder(nn.Module):
    """Prompt tokens and image embedding to masks at a quarter of the image's size.

    Args:
        side: of the embedding, cells.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side
        self.transformer = TwoWayTransformer()
        self.iou_token = nn.Embedding(1, WIDTH)
        self.mask_tokens = nn.Embedding(MASKS, WIDTH)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(WIDTH, WIDTH // 4, 2, 2),
            nn.LayerNorm(WIDTH // 4, eps=CHANNEL_NORM_EPS),
            nn.GELU(),
            nn.ConvTranspose2d(WIDTH // 4, WIDTH // 8, 2, 2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(Perceptron(WIDTH // 8) for _ in range(MASKS))
        self.iou_prediction_head = Perceptron(MASKS)

    def forward(
        self, image: Tensor, image_position: Tensor, prompts: Tensor, counts: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Decode N prompts.

        Args:
            image: `[1 or N, cells, 256]`, the embedding with the mask prompt added.
            image_position: `[cells, 256]`.
            prompts: tokens `[N, P, 256]`.
            counts: `[N, P]`, 1 where a token counts and 0 where not.

        Returns:
            Logits `[N, 4, 4 side, 4 side]` and predicted IoU `[N, 4]`: first the one mask SAM gives
            where it is asked for a single one, then its three alternatives.
        """
        return self._decode(image, image_position, prompts, counts, range(MASKS))

    def alternatives(
        self, image: Tensor, image_position: Tensor, prompts: Tensor, counts: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Decode only the three alternatives; see `forward`."""
        return self._decode(image, image_position, prompts, counts, range(1, MASKS))

    def _decode(
        self, image: Tensor, image_position: Tensor, prompts: Tensor, counts: Tensor, which: range
    ) -> tuple[Tensor, Tensor]:
        tokens, absent = self.tokens(prompts, counts)
        absent = absent.unsqueeze(1).unsqueeze(1)
        tokens, image = self.transformer(tokens, image, image_position, absent)
        logits = self._draw(tokens[:, 1 : 1 + MASKS], image, which)
        iou = self.iou_prediction_head(tokens[:, 0])
        return logits, iou[:, which.start : which.stop]

    def tokens(self, prompts: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Put the tokens that are asked for answers before the prompts'.

        Returns:
            Tokens `[N, T, 256]`, and what is added to their scores where others look at them,
            `[N, T]`.
        """
        # Zero times a count: an expansion to N rows that the exporter needs no sizes for.
        every = counts[:, :1] * 0.0 + 1.0
        output = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([every.unsqueeze(-1) * output, prompts], 1)
        present = torch.cat([every] * len(output) + [counts], 1)
        return tokens, (1.0 - present) * ABSENT

    def _draw(self, tokens: Tensor, image: Tensor, which: range) -> Tensor:
        """Enlarge the image four times and weigh its channels by each mask's token."""
        first = self.output_upscaling[0]
        enlarged = double(first, image.reshape(-1, WIDTH))
        return self.weigh(tokens, enlarged, which, self.side, self.side)

    def weigh(
        self, tokens: Tensor, enlarged: Tensor, which: range, rows: int, columns: int
    ) -> Tensor:
        """Draw masks of an image that is enlarged twice already.

        Args:
            tokens: of all masks, `[N, 4, 256]`.
            enlarged: `[N * cells * 2 * 2, 64]`.
            which: masks to draw.
            rows: of cells.
            columns: of cells.

        Returns:
            Logits `[N, len(which), 4 rows, 4 columns]`.
        """
        _, norm, gelu, second, _ = self.output_upscaling
        fine = gelu(double(second, gelu(norm(enlarged))))
        fine = fine.reshape(-1, 16 * rows * columns, WIDTH // 8)
        weights = torch.stack([self.output_hypernetworks_mlps[i](tokens[:, i]) for i in which], 1)
        return _arrange(weights @ fine.transpose(1, 2), len(which), rows, columns)


def _arrange(logits: Tensor, masks: int, rows: int, columns: int) -> Tensor:
    """Put `[N, masks, cells * 2 * 2 * 2 * 2]` into rows and columns."""
    logits = logits.reshape(-1, rows, columns, 2, 2, 2, 2).permute(0, 1, 3, 5, 2, 4, 6)
    return logits.reshape(-1, masks, 4 * rows, 4 * columns)


def double(convolution: nn.ConvTranspose2d, x: Tensor) -> Tensor:
    """Map cells `[count, inputs]` to `[count * 2 * 2, outputs]`.

    A transposed convolution of kernel and stride 2 is one matrix product a cell. Its four pixels
    stay together, so that nothing is rearranged until the masks are drawn, which are much smaller.
    """
    weight, bias = double_weights(convolution)
    return F.linear(x, weight, bias).reshape(-1, convolution.out_channels)


def double_weights(convolution: nn.ConvTranspose2d) -> tuple[Tensor, Tensor]:
    """Return the matrix `[2 * 2 * outputs, inputs]` of `double`, and its bias."""
    weight, bias = convolution.weight, convolution.bias
    assert bias is not None
    return weight.permute(2, 3, 1, 0).reshape(-1, len(weight)), torch.cat([bias] * 4)
