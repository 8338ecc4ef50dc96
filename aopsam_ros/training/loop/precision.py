"""In what arithmetic a training computes."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from aopsam_ros.engines.processor import has_bf16_products


def gains_by_bf16(device: torch.device) -> bool:
    """Return whether a device multiplies bf16 faster than 32 bits."""
    return torch.cuda.is_bf16_supported() if device.type == "cuda" else has_bf16_products()


def keep_depthwise_in_fp32(module: nn.Module) -> None:
    """Compute a module's depthwise convolutions in 32 bits wherever autocast says bf16.

    They are no matrix products, which processors have units for: on a Xeon with AMX their gradients
    take three to four times as long in bf16.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1:
            layer.forward = functools.partial(_in_fp32, layer.forward)  # type: ignore[method-assign]


def _in_fp32(forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return forward(x.float())
