"""MobileNetV2 feature pyramid: the pretrained backbone that `nano` starts from."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from aopsam_ros.errors import InputError
from aopsam_ros.models.checkpoints import load_state

# (expansion, output channels, repeats, first stride) of each stage: MobileNetV2, table 2
# (arXiv 1801.04381).
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
# The last block of each resolution, and what it yields: stride 4, 8, 16 and 32.
PYRAMID_BLOCKS = (3, 6, 13, 17)
PYRAMID_CHANNELS = (24, 32, 96, 320)
BATCH_NORM_EPS = 1e-5
# Mean and standard deviation of ImageNet, per channel, on the 0-255 scale.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups)


class InvertedResidual(nn.Module):
    """Expand, filter depthwise, project: one MobileNetV2 block, its batch norms folded."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += [_conv(inputs, hidden, 1), nn.ReLU6(inplace=True)]
        layers += [_conv(hidden, hidden, 3, stride, hidden), nn.ReLU6(inplace=True)]
        layers.append(_conv(hidden, outputs, 1))
        self.layers = nn.Sequential(*layers)
        self.has_shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, inputs, H, W]` to `[B, outputs, H / stride, W / stride]`."""
        return x + self.layers(x) if self.has_shortcut else self.layers(x)


class MobileNetV2(nn.Module):
    """MobileNetV2 1.0 up to stride 32, its batch norms folded into the convolutions.

    Folding makes training cheaper on a CPU and keeps the statistics frozen by construction.
    """

    def __init__(self) -> None:
        super().__init__()
        blocks: list[nn.Module] = [nn.Sequential(_conv(3, 32, 3, 2), nn.ReLU6(inplace=True))]
        channels = 32
        for expansion, outputs, repeats, stride in STAGES:
            for index in range(repeats):
                blocks.append(
                    InvertedResidual(channels, outputs, stride if index == 0 else 1, expansion)
                )
                channels = outputs
        self.blocks = nn.ModuleList(blocks)
        self.frozen_blocks = 0

    def freeze(self, blocks: int) -> None:
        """Exclude the first `blocks` blocks from training: their gradients cost the most time."""
        self.frozen_blocks = blocks
        for index, block in enumerate(self.blocks):
            block.requires_grad_(index >= blocks)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map a normalised image `[B, 3, H, W]` to features at stride 4, 8, 16 and 32."""
        pyramid = []
        x = image
        for index, block in enumerate(self.blocks):
            with torch.set_grad_enabled(torch.is_grad_enabled() and index >= self.frozen_blocks):
                x = block(x)
            if index in PYRAMID_BLOCKS:
                pyramid.append(x)
        return pyramid


def load_imagenet(model: MobileNetV2, path: str | Path) -> None:
    """Load ImageNet weights in torchvision's `features` naming and fold the batch norms.

    Args:
        model: The backbone to fill.
        path: A plain state dict with keys such as `2.conv.1.0.weight`; the last, stride-32
            convolution to 1280 channels is not used.

    Raises:
        InputError: There is no such file, or it holds other weights.
    """
    state = load_state(Path(path))
    for index, block in enumerate(model.blocks):
        convolutions = [module for module in block.modules() if isinstance(module, nn.Conv2d)]
        for convolution, (weight, norm) in zip(
            convolutions, _torchvision_names(index, len(convolutions)), strict=True
        ):
            try:
                _fold(convolution, state, weight, norm)
            except (KeyError, RuntimeError) as error:
                raise InputError(f"{path}: not MobileNetV2's weights ({error})") from error


def _torchvision_names(index: int, count: int) -> list[tuple[str, str]]:
    """Name the (convolution, batch norm) pairs of block `index`, in order."""
    if index == 0:
        return [("0.0", "0.1")]
    pairs = [(f"{index}.conv.{i}.0", f"{index}.conv.{i}.1") for i in range(count - 1)]
    return [*pairs, (f"{index}.conv.{count - 1}", f"{index}.conv.{count}")]


def _fold(convolution: nn.Conv2d, state: dict[str, Tensor], weight: str, norm: str) -> None:
    gain = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + BATCH_NORM_EPS).sqrt()
    assert convolution.bias is not None
    with torch.no_grad():
        convolution.weight.copy_(state[f"{weight}.weight"] * gain[:, None, None, None])
        convolution.bias.copy_(state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * gain)
