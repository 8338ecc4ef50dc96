"""What the encoder and the decoder share: layers, and reshaping that exports without sizes."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

CHANNEL_NORM_EPS = 1e-6  # SAM's norms over the channels of a map; its token norms keep torch's 1e-5


def conv_norm(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Return a convolution `c` that keeps the size (but for its stride), with batch norm `bn`."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(OrderedDict(c=convolution, bn=nn.BatchNorm2d(outputs)))


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each pixel of a map."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=CHANNEL_NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape `[B, C, H, W]`."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def reshape(x: Tensor, *sizes: int) -> Tensor:
    """Reshape as ONNX does: 0 keeps the size at its place, one -1 takes what is left.

    Exported, this is a single node with a constant. Torch's own way, `x.reshape(x.shape[0], ...)`,
    becomes a chain of nodes that compute sizes, which engines take less well.
    """
    if torch.onnx.is_in_onnx_export():
        return _OnnxReshape.apply(x, *sizes)
    return _keep(x, sizes)


def _keep(x: Tensor, sizes: tuple[int, ...]) -> Tensor:
    return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(sizes)])


class _OnnxReshape(torch.autograd.Function):
    """`reshape` while a graph is being exported."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *sizes: int) -> Tensor:  # noqa: ANN401, ARG004
        return _keep(x, sizes)

    @staticmethod
    def symbolic(g: Any, x: Any, *sizes: int) -> Any:  # noqa: ANN401
        return g.op("Reshape", x, g.op("Constant", value_t=torch.tensor(sizes)))
