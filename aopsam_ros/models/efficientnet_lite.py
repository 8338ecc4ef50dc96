"""EfficientNet-Lite feature pyramid: the pretrained backbone that `nano` starts from."""

import math
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from aopsam_ros.errors import InputError
from aopsam_ros.models.checkpoints import load_state

# (kernel, first stride, expansion, output channels, repeats) of each stage: EfficientNet-B0's
# (arXiv 1905.11946, table 1) without squeeze-and-excite, as EfficientNet-Lite has it.
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
STEM_CHANNELS = 32
# Width and depth factors; first and last stage keep their depth.
SCALES = {"lite0": (1.0, 1.0), "lite2": (1.1, 1.2)}
BATCH_NORM_EPS = 1e-3
# ImageNet's statistics, per channel on the 0-255 scale.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
PYRAMID_STAGES = (1, 2, 4, 6)  # the last stage at stride 4, 8, 16 and 32


class SameConv(nn.Conv2d):
    """Convolution with TensorFlow's "same" padding: at stride 2 one pixel more at the end."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1
    ) -> None:
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(inputs, outputs, kernel, stride, padding, groups=groups)
        total = kernel - stride
        self.same = None if stride == 1 else (total // 2, total - total // 2) * 2

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, C, H, W]` to `[B, C', H / stride, W / stride]`, H and W multiples of it."""
        return super().forward(x if self.same is None else F.pad(x, self.same))


class MBConv(nn.Module):
    """Expand, filter depthwise, project; batch norms folded."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += [SameConv(inputs, hidden, 1, 1), nn.ReLU6(inplace=True)]
        layers += [SameConv(hidden, hidden, kernel, stride, hidden), nn.ReLU6(inplace=True)]
        layers.append(SameConv(hidden, outputs, 1, 1))
        self.layers = nn.Sequential(*layers)
        self.has_shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, inputs, H, W]` to `[B, outputs, H / stride, W / stride]`."""
        return x + self.layers(x) if self.has_shortcut else self.layers(x)


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite up to stride 32, its batch norms folded into the convolutions.

    Folding makes training cheaper on a CPU and keeps the statistics frozen by construction.
    """

    def __init__(self, variant: str) -> None:
        super().__init__()
        width, depth = SCALES[variant]
        blocks: list[nn.Module] = [
            nn.Sequential(SameConv(3, STEM_CHANNELS, 3, 2), nn.ReLU6(inplace=True))
        ]
        channels, ends, sizes = STEM_CHANNELS, [], []
        for number, (kernel, stride, expansion, outputs, repeats) in enumerate(STAGES):
            is_fixed = number in (0, len(STAGES) - 1)
            outputs = _round_channels(outputs * width)
            for index in range(repeats if is_fixed else math.ceil(repeats * depth)):
                first = stride if index == 0 else 1
                blocks.append(MBConv(channels, outputs, kernel, first, expansion))
                channels = outputs
            if number in PYRAMID_STAGES:
                ends.append(len(blocks) - 1)
                sizes.append(channels)
        self.blocks = nn.ModuleList(blocks)
        self.pyramid_blocks, self.channels = tuple(ends), tuple(sizes)

    def freeze(self, blocks: int) -> None:
        """Exclude the first `blocks` blocks from training: their gradients cost the most time."""
        for index, block in enumerate(self.blocks):
            block.requires_grad_(index >= blocks)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map a normalised image `[B, 3, H, W]` to features at stride 4, 8, 16 and 32."""
        pyramid = []
        x = image
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.pyramid_blocks:
                pyramid.append(x)
        return pyramid


def _round_channels(channels: float) -> int:
    """Round to a multiple of 8, but not down by more than a tenth."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def load_imagenet(model: EfficientNetLite, path: Path) -> None:
    """Load ImageNet weights and fold the batch norms.

    The file holds a plain state dict in the naming of Google's conversion, with keys such as
    `_blocks.3._depthwise_conv.weight`.

    Raises:
        InputError: if there is no such file, or it holds other weights.
    """
    state = load_state(path)
    for index, block in enumerate(model.blocks):
        convolutions = [module for module in block.modules() if isinstance(module, nn.Conv2d)]
        for convolution, (weight, norm) in zip(
            convolutions, _names(index, len(convolutions)), strict=True
        ):
            try:
                _fold(convolution, state, weight, norm)
            except (KeyError, RuntimeError) as error:
                raise InputError(f"{path}: not EfficientNet-Lite's weights ({error})") from error


def _names(index: int, count: int) -> list[tuple[str, str]]:
    """Name the (convolution, batch norm) pairs of block `index`, in order."""
    if index == 0:
        return [("_conv_stem", "_bn0")]
    pairs = [("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
    return [(f"_blocks.{index - 1}.{a}", f"_blocks.{index - 1}.{b}") for a, b in pairs[3 - count :]]


def _fold(convolution: nn.Conv2d, state: dict[str, Tensor], weight: str, norm: str) -> None:
    scale = state[f"{norm}.weight"].float()
    gain = scale / (state[f"{norm}.running_var"].float() + BATCH_NORM_EPS).sqrt()
    assert convolution.bias is not None
    with torch.no_grad():
        convolution.weight.copy_(state[f"{weight}.weight"].float() * gain[:, None, None, None])
        shift = state[f"{norm}.running_mean"].float() * gain
        convolution.bias.copy_(state[f"{norm}.bias"].float() - shift)
