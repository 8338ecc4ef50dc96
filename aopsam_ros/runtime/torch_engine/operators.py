"""The ONNX operators (opset 13 to 17) that the torch engine knows."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from aopsam_ros.runtime.torch_engine.operator import OperatorTable, only
from aopsam_ros.runtime.torch_engine.shaping import SHAPING
from aopsam_ros.runtime.torch_engine.spatial import SPATIAL

OPERATORS = OperatorTable({**SHAPING, **SPATIAL})

OPERATORS.plain(
    Abs=torch.abs, Ceil=torch.ceil, Cos=torch.cos, Erf=torch.erf, Exp=torch.exp,
    Floor=torch.floor, Log=torch.log, Neg=torch.neg, Not=torch.logical_not,
    Reciprocal=torch.reciprocal, Relu=torch.relu, Sigmoid=torch.sigmoid, Sin=torch.sin,
    Sqrt=torch.sqrt, Tanh=torch.tanh, HardSwish=F.hardswish,
)  # fmt: skip
OPERATORS.plain(
    Add=torch.add, Sub=torch.sub, Mul=torch.mul, MatMul=torch.matmul,
    And=torch.logical_and, Or=torch.logical_or, Equal=torch.eq,
    Greater=torch.gt, GreaterOrEqual=torch.ge, Less=torch.lt, LessOrEqual=torch.le,
)  # fmt: skip

# ONNX's numbers of element types.
_TYPES = {
    1: torch.float32, 2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32,
    7: torch.int64, 9: torch.bool, 10: torch.float16, 11: torch.float64,
}  # fmt: skip


@OPERATORS.add("Cast")
def cast(x: Tensor, *, to: int) -> Tensor:
    """Convert the elements; floats are cut towards zero."""
    only("to", to, *_TYPES)
    return x.to(_TYPES[to])


@OPERATORS.add("Div")
def div(a: Tensor, b: Tensor) -> Tensor:
    """Divide; whole numbers are cut towards zero."""
    return torch.div(a, b, rounding_mode=None if a.is_floating_point() else "trunc")


@OPERATORS.add("Pow")
def power(x: Tensor, exponent: Tensor) -> Tensor:
    """Raise to a power; the type is the base's."""
    return torch.pow(x, exponent).to(x.dtype)


@OPERATORS.add("Max")
def maximum(*values: Tensor) -> Tensor:
    """Return the largest of several tensors, element by element."""
    return functools.reduce(torch.maximum, values)


@OPERATORS.add("Min")
def minimum(*values: Tensor) -> Tensor:
    """Return the smallest of several tensors, element by element."""
    return functools.reduce(torch.minimum, values)


@OPERATORS.add("Where")
def where(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Choose element by element."""
    return torch.where(condition, a, b)


@OPERATORS.add("Clip", host=(1, 2))
def clip(x: Tensor, low: float | None = None, high: float | None = None) -> Tensor:
    """Limit; where the limits cross, the upper one holds."""
    return x if low is None and high is None else torch.clamp(x, low, high)


@OPERATORS.add("LeakyRelu")
def leaky_relu(x: Tensor, *, alpha: float = 0.01) -> Tensor:
    """Scale negative values by `alpha`."""
    return F.leaky_relu(x, alpha)


@OPERATORS.add("HardSigmoid")
def hard_sigmoid(x: Tensor, *, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    """Return a line of slope `alpha` between 0 and 1."""
    return torch.clamp(alpha * x + beta, 0.0, 1.0)


@OPERATORS.add("Softmax")
def softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    """Normalise exponentials along an axis."""
    return torch.softmax(x, axis)


@OPERATORS.add("Gemm")
def gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,  # noqa: N803  (the attributes' names)
    transB: int = 0,  # noqa: N803
) -> Tensor:
    """Return `alpha * a @ b + beta * c`, `a` and `b` transposed on demand."""
    left, right = a.T if transA else a, b.T if transB else b
    if c is None:
        return alpha * (left @ right)
    return torch.addmm(c, left, right, beta=beta, alpha=alpha)


@OPERATORS.add("ReduceSum", host=(1,))
def reduce_sum(
    x: Tensor,
    axes: list[int] | None = None,
    *,
    keepdims: int = 1,
    noop_with_empty_axes: int = 0,
) -> Tensor:
    """Add up along axes, along all of them where none is given."""
    if not axes and noop_with_empty_axes:
        return x
    return torch.sum(x, _axes(x, axes), keepdim=bool(keepdims))


@OPERATORS.add("ReduceMean")
def reduce_mean(x: Tensor, *, axes: list[int] | None = None, keepdims: int = 1) -> Tensor:
    """Average along axes."""
    return torch.mean(x, _axes(x, axes), keepdim=bool(keepdims))


@OPERATORS.add("ReduceMax")
def reduce_max(x: Tensor, *, axes: list[int] | None = None, keepdims: int = 1) -> Tensor:
    """Return the largest along axes."""
    return torch.amax(x, _axes(x, axes), keepdim=bool(keepdims))


@OPERATORS.add("ReduceMin")
def reduce_min(x: Tensor, *, axes: list[int] | None = None, keepdims: int = 1) -> Tensor:
    """Return the smallest along axes."""
    return torch.amin(x, _axes(x, axes), keepdim=bool(keepdims))


@OPERATORS.add("ReduceProd")
def reduce_prod(x: Tensor, *, axes: list[int] | None = None, keepdims: int = 1) -> Tensor:
    """Multiply along axes."""
    # Torch's function takes one axis at a time; from the last, so that the others keep their place.
    ordered = sorted((axis % x.ndim for axis in _axes(x, axes)), reverse=True)
    for axis in ordered:
        x = torch.prod(x, axis, keepdim=bool(keepdims))
    return x


def _axes(x: Tensor, axes: list[int] | None) -> list[int]:
    return list(axes) if axes else list(range(x.ndim))
