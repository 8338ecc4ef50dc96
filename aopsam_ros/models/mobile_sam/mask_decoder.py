"""SAM's mask decoder (arXiv 2304.02643, appendix A): tokens and image to masks."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from aopsam_ros.models.mobile_sam.attention import WIDTH, TwoWayTransformer
from aopsam_ros.models.mobile_sam.layers import CHANNEL_NORM_EPS

MASKS = 4  # one for an unambiguous prompt, then three alternatives
PADDING_BIAS = -1e4  # of a score: its softmax is exactly 0, and the number fits in 16 bits


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
    """Prompt tokens and an embedding of `side` x `side` cells to masks of four times that side."""

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
        self,
        image: Tensor,
        image_position: Tensor,
        prompts: Tensor,
        is_present: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Decode N prompts.

        Args:
            image: `[1 or N, cells, 256]`, the embedding with the mask prompt added.
            image_position: `[cells, 256]`.
            prompts: tokens `[N, P, 256]`.
            is_present: `[N, P]`, 1 for tokens and 0 for padding.

        Returns:
            Logits `[N, 4, 4 side, 4 side]` and predicted IoU `[N, 4]`: SAM's single mask, then its
            three alternatives.
        """
        tokens, padding_bias = self.tokens(prompts, is_present)
        padding_bias = padding_bias.unsqueeze(1).unsqueeze(1)
        tokens, image = self.transformer(tokens, image, image_position, padding_bias)
        upscaled = double(self.output_upscaling[0], image.reshape(-1, WIDTH))
        mask_tokens = tokens[:, 1 : 1 + MASKS]
        logits = self.render_masks(mask_tokens, upscaled, self.side, self.side)
        return logits, self.iou_prediction_head(tokens[:, 0])

    def tokens(self, prompts: Tensor, is_present: Tensor) -> tuple[Tensor, Tensor]:
        """Put the output tokens before the prompts'.

        Returns:
            Tokens `[N, T, 256]` and their padding bias `[N, T]`.
        """
        # Zero times the input: an expansion to N rows that the exporter needs no sizes for.
        every = is_present[:, :1] * 0.0 + 1.0
        output = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([every.unsqueeze(-1) * output, prompts], 1)
        is_present = torch.cat([every] * len(output) + [is_present], 1)
        return tokens, (1.0 - is_present) * PADDING_BIAS

    def render_masks(self, tokens: Tensor, upscaled: Tensor, rows: int, columns: int) -> Tensor:
        """Upscale features a second time and weigh their channels by each mask's token.

        Args:
            tokens: of all masks, `[N, 4, 256]`.
            upscaled: features upscaled once, `[N * cells * 2 * 2, 64]`.
            rows: of cells.
            columns: of cells.

        Returns:
            Logits `[N, 4, 4 rows, 4 columns]`.
        """
        _, norm, gelu, second, _ = self.output_upscaling
        fine = gelu(double(second, gelu(norm(upscaled))))
        fine = fine.reshape(-1, 16 * rows * columns, WIDTH // 8)
        perceptrons = enumerate(self.output_hypernetworks_mlps)
        weights = torch.stack([perceptron(tokens[:, i]) for i, perceptron in perceptrons], 1)
        return _arrange(weights @ fine.transpose(1, 2), rows, columns)


def _arrange(logits: Tensor, rows: int, columns: int) -> Tensor:
    """Rearrange `[N, 4, cells * 2 * 2 * 2 * 2]` to `[N, 4, 4 rows, 4 columns]`."""
    logits = logits.reshape(-1, rows, columns, 2, 2, 2, 2).permute(0, 1, 3, 5, 2, 4, 6)
    return logits.reshape(-1, MASKS, 4 * rows, 4 * columns)


def double(convolution: nn.ConvTranspose2d, x: Tensor) -> Tensor:
    """Map cells `[count, inputs]` to `[count * 2 * 2, outputs]`.

    A transposed convolution of kernel and stride 2 is one matrix product a cell. Its four pixels
    stay together, so that only the masks, which are much smaller, are rearranged.
    """
    weight, bias = double_weights(convolution)
    return F.linear(x, weight, bias).reshape(-1, convolution.out_channels)


def double_weights(convolution: nn.ConvTranspose2d) -> tuple[Tensor, Tensor]:
    """Return the matrix `[2 * 2 * outputs, inputs]` of `double`, and its bias."""
    weight, bias = convolution.weight, convolution.bias
    assert bias is not None
    return weight.permute(2, 3, 1, 0).reshape(-1, len(weight)), torch.cat([bias] * 4)
