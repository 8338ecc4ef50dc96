"""ONNX operators in torch: those that arrange values and do not compute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from aopsam_ros.runtime.torch_engine.operator import OperatorTable, UnsupportedError, only

SHAPING = OperatorTable()
Ints = Sequence[int]


@SHAPING.add("Constant")
def constant(
    *,
    value: Tensor | None = None,
    value_float: float | None = None,
    value_floats: Sequence[float] | None = None,
    value_int: int | None = None,
    value_ints: Ints | None = None,
) -> Tensor:
    """Return what the node holds."""
    if value is not None:
        return value
    for given, dtype in (
        (value_float, torch.float32),
        (value_floats, torch.float32),
        (value_int, torch.int64),
        (value_ints, torch.int64),
    ):
        if given is not None:
            return torch.tensor(given, dtype=dtype)
    raise UnsupportedError("it has no value")


@SHAPING.add("ConstantOfShape", host=(0,))
def constant_of_shape(shape: Ints, *, value: Tensor | None = None) -> Tensor:
    """Fill a shape with one value, 0 by default."""
    if value is None:
        return torch.zeros(list(shape))
    return torch.full(list(shape), value.item(), dtype=value.dtype)


@SHAPING.add("Range", host=(0, 1, 2))
def arange(start: float, limit: float, delta: float) -> Tensor:
    """Count from `start` to before `limit`."""
    dtype = torch.int64 if isinstance(start, int) else torch.float32
    return torch.arange(start, limit, delta, dtype=dtype)


@SHAPING.add("Shape")
def shape(x: Tensor, *, start: int = 0, end: int | None = None) -> Tensor:
    """Return the sizes; on the host, wherever `x` is."""
    return torch.tensor(x.shape[start:end], dtype=torch.int64)


@SHAPING.add("Identity")
def identity(x: Tensor) -> Tensor:
    """Return the same values."""
    return x


@SHAPING.add("Reshape", host=(1,))
def reshape(x: Tensor, sizes: Ints, *, allowzero: int = 0) -> Tensor:
    """Change the shape; 0 keeps the size at its place, one -1 takes what is left."""
    if allowzero:
        return x.reshape(list(sizes))
    return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(sizes)])


@SHAPING.add("Flatten")
def flatten(x: Tensor, *, axis: int = 1) -> Tensor:
    """Make a matrix: the sizes before `axis`, and from it."""
    axis = axis + x.ndim if axis < 0 else axis
    rows = 1
    for size in x.shape[:axis]:
        rows *= size
    return x.reshape(rows, -1)


@SHAPING.add("Transpose")
def transpose(x: Tensor, *, perm: Ints | None = None) -> Tensor:
    """Reorder the axes; reversed by default."""
    return x.permute(*(perm if perm is not None else range(x.ndim - 1, -1, -1)))


@SHAPING.add("Unsqueeze", host=(1,))
def unsqueeze(x: Tensor, axes: Ints) -> Tensor:
    """Insert axes of size 1; the places are those in the result."""
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


@SHAPING.add("Squeeze", host=(1,))
def squeeze(x: Tensor, axes: Ints | None = None) -> Tensor:
    """Remove axes of size 1, all of them by default."""
    if axes is None:
        return x.squeeze()
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):
        if x.shape[axis] != 1:
            raise UnsupportedError(f"an axis of size {x.shape[axis]} cannot be removed")
        x = x.squeeze(axis)
    return x


@SHAPING.add("Expand", host=(1,))
def expand(x: Tensor, sizes: Ints) -> Tensor:
    """Repeat axes of size 1; both shapes may."""
    return x.expand(torch.broadcast_shapes(x.shape, tuple(sizes)))


@SHAPING.add("Tile", host=(1,))
def tile(x: Tensor, repeats: Ints) -> Tensor:
    """Repeat along every axis."""
    return x.repeat(*repeats)


@SHAPING.add("Concat")
def concat(*values: Tensor, axis: int) -> Tensor:
    """Join along an axis."""
    return torch.cat(values, axis)


@SHAPING.add("Split", host=(1,))
def split(x: Tensor, sizes: Ints | None = None, *, axis: int = 0, outputs: int) -> Sequence[Tensor]:
    """Cut along an axis, into equal parts by default."""
    if sizes is None:
        if x.shape[axis] % outputs:
            raise UnsupportedError(f"{x.shape[axis]} has no {outputs} equal parts")
        sizes = [x.shape[axis] // outputs] * outputs
    return x.split(list(sizes), axis)


@SHAPING.add("Slice", host=(1, 2, 3, 4))
def slice_(
    x: Tensor, starts: Ints, ends: Ints, axes: Ints | None = None, steps: Ints | None = None
) -> Tensor:
    """Take every `step`-th element between two places along axes; steps may be negative."""
    axes = axes if axes is not None else range(len(starts))
    steps = steps if steps is not None else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        places = range(*slice(start, end, step).indices(x.shape[axis]))
        if step < 0:
            x = x.flip(axis)
            last = x.shape[axis] - 1
            places = range(last - places.start, last - places.stop, -step)
        cut = [slice(None)] * x.ndim
        cut[axis] = slice(places.start, max(places.start, places.stop), places.step)
        x = x[tuple(cut)]
    return x


@SHAPING.add("Gather", scalars=(1,))
def gather(x: Tensor, index: int | Tensor, *, axis: int = 0) -> Tensor:
    """Pick elements along an axis; a negative index counts from the end."""
    if isinstance(index, int):
        return x.select(axis, index)
    axis = axis % x.ndim
    index = torch.where(index < 0, index + x.shape[axis], index)
    picked = torch.index_select(x, axis, index.reshape(-1))
    return picked.reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])


@SHAPING.add("Pad", host=(1, 2))
def pad(x: Tensor, pads: Ints, value: float | None = None, *, mode: str = "constant") -> Tensor:
    """Add a border: sizes before every axis, then after."""
    only("mode", mode, "constant", "reflect", "edge")
    if not any(pads):
        return x
    amounts = reversed_pairs(pads)
    if mode == "constant":
        return F.pad(x, amounts, value=value or 0)
    spatial = amounts[: 2 * (x.ndim - 2)]
    if any(amounts[len(spatial) :]):
        raise UnsupportedError(f"mode {mode!r} is unknown for the first two axes")
    return F.pad(x, spatial, mode="replicate" if mode == "edge" else mode)


@SHAPING.add("DepthToSpace")
def depth_to_space(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    """Move channels into blocks of pixels."""
    if mode == "CRD":
        return F.pixel_shuffle(x, blocksize)
    count, channels, height, width = x.shape
    x = x.reshape(count, blocksize, blocksize, channels // blocksize**2, height, width)
    return x.permute(0, 3, 4, 1, 5, 2).reshape(count, -1, height * blocksize, width * blocksize)


@SHAPING.add("SpaceToDepth")
def space_to_depth(x: Tensor, *, blocksize: int) -> Tensor:
    """Move blocks of pixels into channels."""
    count, channels, height, width = x.shape
    rows, columns = height // blocksize, width // blocksize
    x = x.reshape(count, channels, rows, blocksize, columns, blocksize)
    return x.permute(0, 3, 5, 1, 2, 4).reshape(count, -1, rows, columns)


def reversed_pairs(pads: Ints) -> list[int]:
    """Order ONNX's borders (all before, then all after) as torch's: pairs from the last axis."""
    rank = len(pads) // 2
    pairs: list[Any] = [(pads[axis], pads[rank + axis]) for axis in reversed(range(rank))]
    return [amount for pair in pairs for amount in pair]
