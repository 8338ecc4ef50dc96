"""What the encoder and the decoder share: layers, and operations that export without sizes."""

import functools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

Operation = Callable[..., Tensor]
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


def exported_as(nodes: Callable[..., Any]) -> Callable[[Operation], Operation]:
    """Decorate an operation: an exported graph holds `nodes(g, *arguments)` in its place.

    What torch traces for sizes is a chain of nodes that compute them, which engines take less well.
    """

    def decorate(operation: Operation) -> Operation:
        class Exported(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, *arguments: Any) -> Tensor:  # noqa: ANN401, ARG004
                return operation(*arguments)

            symbolic = staticmethod(nodes)

        @functools.wraps(operation)
        def run(*arguments: Any) -> Tensor:  # noqa: ANN401
            return (Exported.apply if torch.onnx.is_in_onnx_export() else operation)(*arguments)

        return run

    return decorate


def _reshape_nodes(g: Any, x: Any, *sizes: int) -> Any:  # noqa: ANN401
    return g.op("Reshape", x, _numbers(g, *sizes))


@exported_as(_reshape_nodes)
def reshape(x: Tensor, *sizes: int) -> Tensor:
    """Reshape as ONNX does: 0 keeps the size at its place, one -1 takes what is left."""
    return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(sizes)])


def _pad_nodes(g: Any, x: Any, multiple: int) -> Any:  # noqa: ANN401
    sizes, whole = _sides(g, x, 1), _numbers(g, multiple)
    up = g.op("Div", g.op("Add", sizes, _numbers(g, multiple - 1)), whole)
    missing = g.op("Sub", g.op("Mul", up, whole), sizes)
    pads = g.op("Concat", _numbers(g, 0, 0, 0, 0, 0), missing, _numbers(g, 0), axis_i=0)
    return g.op("Pad", x, pads, mode_s="constant")


@exported_as(_pad_nodes)
def pad(x: Tensor, multiple: int) -> Tensor:
    """Append rows and columns of zeros to a map `[B, H, W, C]`, up to multiples of a number."""
    rows, columns = (-size % multiple for size in x.shape[1:3])
    return F.pad(x, (0, 0, 0, columns, 0, rows))


def _crop_nodes(g: Any, x: Any, like: Any, axis: int) -> Any:  # noqa: ANN401
    starts, axes = _numbers(g, 0, 0), _numbers(g, axis, axis + 1)
    return g.op("Slice", x, starts, _sides(g, like, axis), axes)


@exported_as(_crop_nodes)
def crop(x: Tensor, like: Tensor, axis: int) -> Tensor:
    """Keep as many of the first rows and columns, the axes from `axis` on, as `like` has."""
    rows, columns = like.shape[axis : axis + 2]
    return x.narrow(axis, 0, rows).narrow(axis + 1, 0, columns)


def _sides(g: Any, x: Any, axis: int) -> Any:  # noqa: ANN401
    """Add nodes for the sizes of two axes."""
    return g.op("Slice", g.op("Shape", x), _numbers(g, axis), _numbers(g, axis + 2))


def _numbers(g: Any, *numbers: int) -> Any:  # noqa: ANN401
    return g.op("Constant", value_t=torch.tensor(numbers))
