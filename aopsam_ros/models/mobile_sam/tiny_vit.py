"""TinyViT (arXiv 2207.10666) with SAM's neck: MobileSAM's image encoder."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from aopsam_ros.models.mobile_sam.layers import ChannelNorm, conv_norm, crop, pad, reshape

EMBEDDING_CHANNELS = 256
STEM_WIDTH = 64
STEM_DEPTH = 2
# (width, blocks, heads, window's side) of the attention stages, and by how much each one's merging
# before it shrinks the map: the last keeps the size, so that the embedding has stride 16.
STAGES = ((128, 2, 4, 7), (160, 6, 5, 14), (320, 2, 10, 7))
MERGING_STRIDES = (2, 2, 1)
EXPANSION = 4
CLASSES = 1000


class InvertedBottleneck(nn.Module):
    """Expand, filter depthwise, project (MBConv), with the shortcut before the last GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = EXPANSION * width
        self.conv1 = conv_norm(width, hidden)
        self.conv2 = conv_norm(hidden, hidden, 3, groups=hidden)
        self.conv3 = conv_norm(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape `[B, C, H, W]`."""
        hidden = F.gelu(self.conv2(F.gelu(self.conv1(x))))
        return F.gelu(self.conv3(hidden) + x)


class PatchMerging(nn.Module):
    """Widen the map and, with stride 2, halve it."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv_norm(inputs, outputs)
        self.conv2 = conv_norm(outputs, outputs, 3, stride, outputs)
        self.conv3 = conv_norm(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, inputs, H, W]` to `[B, outputs, H / stride, W / stride]`."""
        return self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))


class WindowAttention(nn.Module):
    """Attention among the cells of a window, with a learned bias for each distance.

    Cells come column by column.
    """

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.width = width
        self.heads = heads
        self.tokens = window * window
        self.head_width = width // heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        # One bias for every pair of absolute distances, (down, across) row by row.
        self.attention_biases = nn.Parameter(torch.zeros(heads, window * window))
        self.register_buffer("distances", _distances(window), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape `[windows, tokens, C]`."""
        x = self.norm(x)
        query, key, value = (self._project(x, which) for which in range(3))
        # Looked up at every call: a cached copy would outlive a change of the weights.
        bias = self.attention_biases[:, self.distances]
        scores = query * self.head_width**-0.5 @ key.transpose(-1, -2) + bias
        attended = torch.softmax(scores, -1) @ value
        return self.proj(attended.transpose(1, 2).reshape(-1, self.tokens, self.width))

    def _project(self, x: Tensor, which: int) -> Tensor:
        """Return queries (0), keys (1) or values (2), `[windows, heads, tokens, d]`.

        The checkpoint interleaves them by head. Taking the weights apart is cheaper than taking
        apart their product, and an exported graph holds them apart already.
        """
        heads, width = self.heads, self.head_width
        weight = self.qkv.weight.reshape(heads, 3, width, -1)[:, which].reshape(heads * width, -1)
        bias = self.qkv.bias.reshape(heads, 3, width)[:, which].reshape(-1)
        return F.linear(x, weight, bias).reshape(-1, self.tokens, heads, width).transpose(1, 2)


def _distances(window: int) -> Tensor:
    """Index `[tokens, tokens]` of each pair of cells into the window's distances."""
    cell = torch.arange(window)
    apart = (cell[:, None] - cell[None, :]).abs()
    pairs = apart[:, None, :, None] + window * apart[None, :, None, :]
    return pairs.reshape(window * window, window * window)


class Mlp(nn.Module):
    """Norm, expand, project."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, EXPANSION * width)
        self.fc2 = nn.Linear(EXPANSION * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape `[..., C]`."""
        return self.fc2(F.gelu(self.fc1(self.norm(x))))


class Block(nn.Module):
    """Attention inside windows, a depthwise convolution that crosses them, an MLP."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.width = width
        self.window = window
        self.attn = WindowAttention(width, heads, window)
        self.local_conv = conv_norm(width, width, 3, groups=width)
        self.mlp = Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape `[B, H, W, C]`."""
        x = x + self._attend(x)
        x = self.local_conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x + self.mlp(x)

    def _attend(self, x: Tensor) -> Tensor:
        window, width = self.window, self.width
        padded = pad(x, window)
        # A band is a row of windows: with its columns first, they lie one after another. So the
        # exported graph is for maps of any size, and hardly has to compute with it.
        bands = reshape(padded, -1, window, 0, width).transpose(1, 2)
        attended = self.attn(reshape(bands, -1, window * window, width))
        attended = attended.reshape_as(bands).transpose(1, 2).reshape_as(padded)
        return crop(attended, x, 1)


class Stage(nn.Module):
    """Blocks of one resolution, and the merging that leads to the next one."""

    def __init__(self, blocks: list[nn.Module], merging: PatchMerging | None) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        if merging is not None:
            self.downsample = merging


class TinyVit(nn.Module):
    """TinyViT-5M with windows of 7, 14 and 7, then SAM's neck."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = nn.ModuleDict(
            {
                "seq": nn.Sequential(
                    conv_norm(3, STEM_WIDTH // 2, 3, 2),
                    nn.GELU(),
                    conv_norm(STEM_WIDTH // 2, STEM_WIDTH, 3, 2),
                )
            }
        )
        self.layers = _stages()
        width = STAGES[-1][0]
        # The classifier that the encoder was distilled with: in the checkpoint, but never used.
        self.norm_head = nn.LayerNorm(width)
        self.head = nn.Linear(width, CLASSES)
        self.neck = nn.Sequential(
            nn.Conv2d(width, EMBEDDING_CHANNELS, 1, bias=False),
            ChannelNorm(EMBEDDING_CHANNELS),
            nn.Conv2d(EMBEDDING_CHANNELS, EMBEDDING_CHANNELS, 3, padding=1, bias=False),
            ChannelNorm(EMBEDDING_CHANNELS),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Map normalised images `[B, 3, H, W]` to their embeddings `[B, 256, H/16, W/16]`.

        H and W are multiples of 16.
        """
        x = self.patch_embed["seq"](image)
        stem, *stages = self.layers
        x = stem.downsample(stem.blocks(x))
        for stage in stages:
            x = stage.blocks(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            if hasattr(stage, "downsample"):
                x = stage.downsample(x)
        return self.neck(x)


def _stages() -> nn.ModuleList:
    """Return the stem's stage of convolutions, then those of attention."""
    blocks: list[nn.Module] = [InvertedBottleneck(STEM_WIDTH) for _ in range(STEM_DEPTH)]
    before = STEM_WIDTH
    stages = []
    for (width, depth, heads, window), stride in zip(STAGES, MERGING_STRIDES, strict=True):
        stages.append(Stage(blocks, PatchMerging(before, width, stride)))
        before = width
        blocks = [Block(width, heads, window) for _ in range(depth)]
    return nn.ModuleList([*stages, Stage(blocks, None)])
