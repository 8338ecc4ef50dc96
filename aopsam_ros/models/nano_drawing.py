"""Masks of `nano`: the weights of a mask's own network, and the map that it is run on.

Each mask is drawn by a tiny network of its own, which looks at each pixel by itself (CondInst,
arXiv 2003.05664): at details of the image, x and y.
"""

import torch
import torch.nn.functional as F  # noqa: N812  (the field's name for it)
from torch import Tensor

DETAIL_CHANNELS = 16
# Coordinates are divided by it, not by the image's size, so that a model trained on crops of any
# size sees the same positions.
COORDINATE_UNIT = 64.0
HIDDEN = 8  # channels of a mask's own network
PLANES = DETAIL_CHANNELS + 2  # its inputs: details, x and y
# Weights and biases of its first layer, then weights of the second and the last. These need no
# biases: a channel that the first layer keeps constant is one.
WEIGHT_SIZES = (HIDDEN * PLANES, HIDDEN, HIDDEN * HIDDEN, HIDDEN)


def input_planes(detail: Tensor, stride: int) -> Tensor:
    """Put x, y and a plane of ones beside details `[B, 16, H, W]`: `[B, 19, H, W]`.

    The ones take the biases: a pass over every mask less than to add them.
    """
    height, width = detail.shape[-2:]
    places = cell_centres(height, width, stride, detail).T.reshape(1, 2, height, width)
    places = places.expand(len(detail), -1, -1, -1) / COORDINATE_UNIT
    return torch.cat([detail, places, torch.ones_like(places[:, :1])], 1)


def render_masks(planes: Tensor, mask_weights: Tensor) -> Tensor:
    """Run the networks of weights `[B, n, 224]` over planes `[B, 19, H, W]`, of `input_planes`.

    Returns:
        Logits `[B, n, H, W]`.
    """
    batch, _, height, width = planes.shape
    first, biases, second, last = mask_weights.split(WEIGHT_SIZES, -1)
    first = first.reshape(batch, -1, HIDDEN, PLANES)
    first = torch.cat([first, biases.reshape(batch, -1, HIDDEN, 1)], -1)
    # One product for all masks of an image.
    x = F.relu(first.reshape(batch, -1, PLANES + 1) @ planes.flatten(2))
    x = F.relu(second.reshape(-1, HIDDEN, HIDDEN) @ x.reshape(-1, HIDDEN, height * width))
    return (last.reshape(-1, 1, HIDDEN) @ x).reshape(batch, -1, height, width)


def to_absolute(relative: Tensor, anchor: Tensor, scale: Tensor) -> Tensor:
    """Turn weights for places relative to the prompt into weights for places in the image.

    A mask's network sees x and y linearly first, so the prompt's own place goes into the biases,
    and all prompts share one map of positions.

    Args:
        relative: `[B, N, M, 224]`.
        anchor: `[B, N, 2]`, the prompt's place in pixels.
        scale: `[B, N, 2]`, factor on distances from it in x and y.
    """
    sizes = [WEIGHT_SIZES[0], WEIGHT_SIZES[1], sum(WEIGHT_SIZES[2:])]
    weights, biases, rest = relative.split(sizes, -1)
    first = weights.reshape(*weights.shape[:-1], HIDDEN, PLANES)
    detail, place = first.split([DETAIL_CHANNELS, 2], -1)
    place = place * scale.unsqueeze(2).unsqueeze(3)
    origin = (anchor / COORDINATE_UNIT).unsqueeze(2).unsqueeze(3)
    weights = torch.cat([detail, place], -1).flatten(-2)
    return torch.cat([weights, biases - (place * origin).sum(-1), rest], -1)


def cell_centres(height: int, width: int, stride: int, like: Tensor) -> Tensor:
    """Pixel coordinates `[height * width, 2]` of a map's cells, row by row."""
    y = (torch.arange(height, dtype=like.dtype, device=like.device) + 0.5) * stride
    x = (torch.arange(width, dtype=like.dtype, device=like.device) + 0.5) * stride
    columns, rows = x.unsqueeze(0).expand(height, -1), y.unsqueeze(1).expand(-1, width)
    return torch.stack([columns, rows], -1).reshape(-1, 2)
