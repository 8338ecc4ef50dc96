"""ONNX operators in torch: convolutions, pooling, norms and resampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from aopsam_ros.runtime.torch_engine.operator import OperatorTable, UnsupportedError, only
from aopsam_ros.runtime.torch_engine.shaping import reversed_pairs

SPATIAL = OperatorTable()
Ints = Sequence[int]


@SPATIAL.add("Conv")
def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Ints | None = None,
    group: int = 1,
    kernel_shape: Ints | None = None,  # noqa: ARG001  (the weight tells)
    pads: Ints | None = None,
    strides: Ints | None = None,
) -> Tensor:
    """Convolve."""
    only("auto_pad", auto_pad, "NOTSET", "VALID")
    rank = x.ndim - 2
    x, border = _padded(x, pads, rank)
    if rank == 2:  # the weights are laid out like this too; depthwise kernels gain most
        x = x.contiguous(memory_format=torch.channels_last)
    return torch.convolution(
        x, weight, bias, _sizes(strides, rank), border, _sizes(dilations, rank), False,
        [0] * rank, group,
    )  # fmt: skip


@SPATIAL.add("ConvTranspose")
def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Ints | None = None,
    group: int = 1,
    kernel_shape: Ints | None = None,  # noqa: ARG001
    output_padding: Ints | None = None,
    pads: Ints | None = None,
    strides: Ints | None = None,
) -> Tensor:
    """Convolve the other way round."""
    only("auto_pad", auto_pad, "NOTSET", "VALID")
    rank = x.ndim - 2
    border = _symmetric(pads, rank)
    if border is None:
        raise UnsupportedError(f"pads {list(pads or ())} are unequal")
    return torch.convolution(
        x, weight, bias, _sizes(strides, rank), border, _sizes(dilations, rank), True,
        list(output_padding or [0] * rank), group,
    )  # fmt: skip


@SPATIAL.add("MaxPool")
def max_pool(
    x: Tensor,
    *,
    kernel_shape: Ints,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Ints | None = None,
    pads: Ints | None = None,
    storage_order: int = 0,  # noqa: ARG001  (of indices, which are not made)
    strides: Ints | None = None,
) -> Tensor:
    """Take each window's largest value."""
    only("auto_pad", auto_pad, "NOTSET", "VALID")
    only("rank", x.ndim, 4)
    only("ceil_mode", ceil_mode, 0)
    x, border = _padded(x, pads, 2, float("-inf"))
    steps, gaps = _sizes(strides, 2), _sizes(dilations, 2)
    return F.max_pool2d(x, list(kernel_shape), steps, border, gaps)


@SPATIAL.add("AveragePool")
def average_pool(
    x: Tensor,
    *,
    kernel_shape: Ints,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    pads: Ints | None = None,
    strides: Ints | None = None,
) -> Tensor:
    """Average each window."""
    only("auto_pad", auto_pad, "NOTSET", "VALID")
    only("rank", x.ndim, 4)
    only("ceil_mode", ceil_mode, 0)
    border = _symmetric(pads, 2)
    if border is None:
        raise UnsupportedError(f"pads {list(pads or ())} are unequal")
    steps = _sizes(strides, 2)
    return F.avg_pool2d(
        x, list(kernel_shape), steps, border, count_include_pad=bool(count_include_pad)
    )


@SPATIAL.add("GlobalAveragePool")
def global_average_pool(x: Tensor) -> Tensor:
    """Average each channel."""
    return x.mean(list(range(2, x.ndim)), keepdim=True)


@SPATIAL.add("BatchNormalization")
def batch_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,  # noqa: ARG001  (of training)
    training_mode: int = 0,
) -> Tensor:
    """Normalise channels with stored statistics."""
    only("training_mode", training_mode, 0)
    return F.batch_norm(x, mean, variance, scale, bias, eps=epsilon)


@SPATIAL.add("InstanceNormalization")
def instance_normalization(
    x: Tensor, scale: Tensor, bias: Tensor, *, epsilon: float = 1e-5
) -> Tensor:
    """Normalise each channel of each image."""
    # As groups of one channel: torch's own instance norm took several times as long on a CPU.
    return torch.group_norm(x, x.shape[1], scale, bias, epsilon)


@SPATIAL.add("LayerNormalization")
def layer_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> Tensor:
    """Normalise over the axes from `axis` on."""
    only("stash_type", stash_type, 1)
    shape = x.shape[axis:]
    if scale.shape != shape or (bias is not None and bias.shape != shape):
        raise UnsupportedError(f"a scale of {list(scale.shape)} for {list(shape)}")
    return F.layer_norm(x, shape, scale, bias, epsilon)


@SPATIAL.add("Resize", host=(1, 2, 3))
def resize(
    x: Tensor,
    roi: Sequence[float] | None = None,  # noqa: ARG001  (only tf_crop_and_resize reads it)
    scales: Sequence[float] | None = None,
    sizes: Ints | None = None,
    *,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,  # noqa: ARG001  (only tf_crop_and_resize reads it)
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> Tensor:
    """Resample height and width."""
    only("rank", x.ndim, 4)
    only("exclude_outside", exclude_outside, 0)
    factors, unchanged = (sizes, x.shape[:2]) if sizes else (scales, (1, 1))
    if not factors or tuple(factors[:2]) != tuple(unchanged):
        raise UnsupportedError("it resizes other axes than height and width")
    wanted: dict[str, Any] = {"size" if sizes else "scale_factor": list(factors[2:])}
    if mode == "nearest":
        only("coordinate_transformation_mode", coordinate_transformation_mode, "asymmetric")
        only("nearest_mode", nearest_mode, "floor")
        return F.interpolate(x, **wanted, mode="nearest")
    only(
        "coordinate_transformation_mode", coordinate_transformation_mode,
        "half_pixel", "align_corners",
    )  # fmt: skip
    if mode == "cubic":
        only("cubic_coeff_a", cubic_coeff_a, -0.75)
    corners = coordinate_transformation_mode == "align_corners"
    how = {"linear": "bilinear", "cubic": "bicubic"}[mode]
    return F.interpolate(x, **wanted, mode=how, align_corners=corners)


@SPATIAL.add("GridSample")
def grid_sample(
    x: Tensor,
    grid: Tensor,
    *,
    align_corners: int = 0,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
) -> Tensor:
    """Pick values at places given in -1 to 1."""
    return F.grid_sample(x, grid, mode, padding_mode, align_corners=bool(align_corners))


def _sizes(values: Ints | None, rank: int) -> list[int]:
    return [1] * rank if values is None else list(values)


def _symmetric(pads: Ints | None, rank: int) -> list[int] | None:
    """Return the border of each axis if it is the same on both sides."""
    if pads is None:
        return [0] * rank
    return list(pads[:rank]) if list(pads[:rank]) == list(pads[rank:]) else None


def _padded(
    x: Tensor, pads: Ints | None, rank: int, value: float = 0.0
) -> tuple[Tensor, list[int]]:
    """Leave a border to the operator if it can make it, else make it here."""
    border = _symmetric(pads, rank)
    if border is not None:
        return x, border
    return F.pad(x, reversed_pairs(pads or ()), value=value), [0] * rank
