"""Every operator of the torch engine gives what ONNX Runtime gives."""

import inspect
import zlib

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

import onnx  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from small_graphs import Runner, model, run_onnx  # noqa: E402

from aopsam_ros.errors import BundleError  # noqa: E402
from aopsam_ros.runtime.torch_engine.operators import OPERATORS  # noqa: E402

BOOL, INT = np.bool_, np.int64
TYPES = {np.dtype(BOOL): TensorProto.BOOL, np.dtype(INT): TensorProto.INT64}


def ints(*values):
    return np.array(values, INT)


class Data:
    """An input that changes from run to run: a shape, a type, and a range."""

    def __init__(self, *shape, low=-2.0, high=2.0, dtype=np.float32):
        self.shape, self.low, self.high, self.dtype = shape, low, high, np.dtype(dtype)

    def draw(self, seed):
        values = np.random.default_rng(seed).uniform(self.low, self.high, self.shape)
        return (
            np.floor(values).astype(self.dtype)
            if self.dtype != np.float32
            else values.astype(np.float32)
        )


def case(op, *inputs, outputs=1, name="", **attributes):
    marks = "-".join([op, name or str(attributes or "")])
    return pytest.param(op, inputs, outputs, attributes, id=marks)


X = Data(2, 3, 4)
MAP = Data(2, 6, 8, 10)
POSITIVE = Data(2, 3, 4, low=0.1)
KERNEL = np.random.default_rng(0).normal(size=(6, 6, 3, 3)).astype(np.float32)
DEPTHWISE, POINTWISE = KERNEL[:, :1], KERNEL[:, :, :1, :1]
BIAS = np.linspace(-1, 1, 6, dtype=np.float32)
SCALE = np.linspace(0.5, 1.5, 6, dtype=np.float32)

PLAIN = (
    "Abs", "Ceil", "Cos", "Erf", "Exp", "Floor", "HardSwish", "Neg", "Relu", "Sigmoid", "Sin",
    "Tanh",
)  # fmt: skip
ELEMENTWISE = [case(op, X) for op in PLAIN]
ELEMENTWISE += [case(op, POSITIVE) for op in ("Log", "Sqrt", "Reciprocal")]
ELEMENTWISE += [
    case(op, X, other, name=name)
    for op in ("Add", "Sub", "Mul", "Div", "Max", "Min")
    for name, other in {
        "same": X,
        "row": Data(4, low=0.5),
        "scalar": np.float32(1.25),
        "grown": Data(5, 1, 1, 4, low=0.5),
    }.items()
]
ELEMENTWISE += [
    case(op, Data(3, 4, low=-3, high=4, dtype=INT), ints(0, 1, 2, 3), name="whole")
    for op in ("Add", "Sub", "Mul", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
]
ELEMENTWISE += [
    case(op, X, X) for op in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
]
ELEMENTWISE += [
    case("Div", Data(3, 4, low=-9, high=10, dtype=INT), ints(2, 3, -4, 5), name="whole"),
    case("Max", X, X, X, name="three"),
    case("Min", X, X, X, name="three"),
    case("Min", X, name="one"),
    case("Pow", POSITIVE, np.float32(0.5), name="root"),
    case("Pow", X, np.float32(2.0), name="square"),
    case("Pow", X, ints(3)[0], name="whole exponent"),
    case("And", Data(3, 4, dtype=BOOL, low=0, high=2), Data(4, dtype=BOOL, low=0, high=2)),
    case("Or", Data(3, 4, dtype=BOOL, low=0, high=2), Data(4, dtype=BOOL, low=0, high=2)),
    case("Not", Data(3, 4, dtype=BOOL, low=0, high=2)),
    case("Where", Data(3, 4, dtype=BOOL, low=0, high=2), X, Data(4)),
    case("Clip", X, np.float32(-0.5), np.float32(0.75), name="both"),
    case("Clip", X, np.float32(0.0), name="low"),
    case("Clip", X, None, np.float32(1.0), name="high"),
    case("Clip", X, np.float32(1.0), np.float32(-1.0), name="crossed"),
    case("Clip", X, name="none"),
    case("Cast", X, to=TensorProto.INT64),
    case("Cast", X, to=TensorProto.BOOL),
    case("Cast", X, to=TensorProto.FLOAT16),
    case("Cast", Data(3, low=-3, high=4, dtype=INT), to=TensorProto.FLOAT),
    case("LeakyRelu", X),
    case("LeakyRelu", X, alpha=0.2),
    case("HardSigmoid", X),
    case("HardSigmoid", X, alpha=1 / 6, beta=0.5),
    case("Identity", X),
]

MATHEMATICS = [
    case("MatMul", Data(3, 4), Data(4, 5), name="matrices"),
    case("MatMul", Data(2, 3, 4), Data(4, 5), name="stack by matrix"),
    case("MatMul", Data(1, 2, 3, 4), Data(5, 1, 4, 6), name="stacks"),
    case("MatMul", Data(4), Data(4, 5), name="vector"),
    case("MatMul", Data(3, 4), np.ones((4, 5), np.float32), name="weights"),
    case("Gemm", Data(3, 4), Data(4, 5), name="plain"),
    case("Gemm", Data(3, 4), Data(4, 5), Data(5), name="bias"),
    case("Gemm", Data(3, 4), Data(5, 4), Data(5), alpha=1.0, beta=1.0, transB=1),
    case("Gemm", Data(4, 3), Data(4, 5), Data(3, 1), alpha=0.5, beta=2.0, transA=1),
    case("Gemm", Data(4, 3), Data(4, 5), alpha=0.5, transA=1),
    case("Softmax", X),
    case("Softmax", X, axis=1),
    case("ReduceSum", X, name="all"),
    case("ReduceSum", X, ints(1), keepdims=0),
    case("ReduceSum", X, ints(-1, 0), keepdims=1),
    case("ReduceSum", X, noop_with_empty_axes=1),
]
MATHEMATICS += [
    case(op, X, **attributes)
    for op in ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd")
    for attributes in ({}, {"axes": [1], "keepdims": 1}, {"axes": [2, -3], "keepdims": 0})
]

SHAPING = [
    case("Constant", value=numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(2, 3))),
    case("Constant", value_float=1.5),
    case("Constant", value_floats=[1.5, 2.5]),
    case("Constant", value_int=3),
    case("Constant", value_ints=[3, 4]),
    case("ConstantOfShape", ints(2, 3)),
    case("ConstantOfShape", ints(2), value=numpy_helper.from_array(ints(7))),
    case("Range", ints(2)[0], ints(9)[0], ints(3)[0], name="whole"),
    case("Range", np.float32(1), np.float32(0), np.float32(-0.25), name="real"),
    case("Shape", X),
    case("Shape", X, start=1),
    case("Shape", X, start=-2, end=-1),
    case("Reshape", X, ints(4, 6), name="all"),
    case("Reshape", X, ints(0, -1), name="rest"),
    case("Reshape", X, ints(-1, 0, 1), allowzero=0),
    case("Reshape", Data(0, 3), ints(3, 0), allowzero=1),
    case("Flatten", X),
    case("Flatten", X, axis=0),
    case("Flatten", X, axis=-1),
    case("Transpose", X),
    case("Transpose", X, perm=[1, 0, 2]),
    case("Unsqueeze", X, ints(0), name="first"),
    case("Unsqueeze", X, ints(-1, 1), name="two"),
    case("Unsqueeze", X, ints(4, 0), name="unordered"),
    case("Squeeze", Data(1, 3, 1), name="all"),
    case("Squeeze", Data(1, 3, 1), ints(-1), name="last"),
    case("Squeeze", Data(1, 3, 1), ints(0, 2), name="two"),
    case("Expand", Data(3, 1), ints(2, 1, 4), name="both"),
    case("Expand", Data(3, 1), ints(1, 1), name="neither"),
    case("Tile", Data(2, 3), ints(2, 1), name="rows"),
    case("Tile", Data(2, 3), ints(2, 3), name="both"),
    case("Concat", Data(2, 3), Data(2, 1), axis=1),
    case("Concat", Data(2, 3), np.ones((4, 3), np.float32), axis=-2),
    case("Split", X, outputs=2, axis=-1),
    case("Split", Data(5, 2), ints(2, 3), outputs=2, name="sizes"),
    case("Slice", X, ints(1), ints(3), name="plain"),
    case("Slice", X, ints(0, 1), ints(2, -1), ints(1, 2), name="axes"),
    case("Slice", X, ints(0), ints(2**63 - 1), ints(-1), ints(2), name="stepped"),
    case("Slice", X, ints(-1), ints(-(2**63)), ints(2), ints(-1), name="reversed"),
    case("Slice", X, ints(3), ints(0), ints(2), ints(-2), name="backwards"),
    case("Slice", X, ints(3), ints(1), ints(2), name="empty"),
    case("Gather", X, ints(1)[0], name="number"),
    case("Gather", X, ints(-1)[0], axis=2),
    case("Gather", X, ints(1, -1, 0), axis=1),
    case("Gather", X, ints(0, 1, 1, 0).reshape(2, 2), axis=-1),
    case("Gather", np.eye(5, dtype=np.float32), Data(2, 3, low=-5, high=5, dtype=INT), name="data"),
    case("Pad", MAP, ints(0, 0, 1, 2, 0, 0, 3, 0), name="zeros"),
    case("Pad", X, ints(0, 1, 0, 2, 0, 0), np.float32(1.5), mode="constant"),
    case("Pad", X, ints(0, -1, 0, 0, 0, 1), name="cut"),
    case("Pad", X, ints(0, 0, 0, 0, 0, 0), mode="constant"),
    case("Pad", MAP, ints(0, 0, 1, 2, 0, 0, 3, 0), mode="reflect"),
    case("Pad", MAP, ints(0, 0, 1, 2, 0, 0, 3, 0), mode="edge"),
    case("DepthToSpace", Data(2, 12, 3, 4), blocksize=2, mode="DCR"),
    case("DepthToSpace", Data(2, 12, 3, 4), blocksize=2, mode="CRD"),
    case("SpaceToDepth", Data(2, 3, 4, 6), blocksize=2),
]

SPATIAL = [
    case("Conv", MAP, POINTWISE, BIAS, kernel_shape=[1, 1]),
    case("Conv", MAP, KERNEL, name="no bias"),
    case("Conv", MAP, KERNEL, BIAS, pads=[1, 1, 1, 1], strides=[2, 2], dilations=[1, 1]),
    case("Conv", MAP, KERNEL, BIAS, pads=[0, 1, 2, 3], strides=[2, 1]),
    case("Conv", MAP, DEPTHWISE, BIAS, group=6, pads=[2, 2, 2, 2], dilations=[2, 2]),
    case("Conv", MAP, KERNEL, BIAS, auto_pad="VALID"),
    case("Conv", Data(2, 6, 9), KERNEL[..., 0], BIAS, pads=[1, 1], name="one axis"),
    case("Conv", MAP, Data(4, 6, 3, 3), name="kernel from data"),
    case("ConvTranspose", MAP, KERNEL, BIAS, strides=[2, 2]),
    case("ConvTranspose", MAP, KERNEL, pads=[1, 1, 1, 1], strides=[2, 2], output_padding=[1, 1]),
    case("ConvTranspose", MAP, DEPTHWISE, group=6, dilations=[2, 2]),
    case("MaxPool", MAP, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    case("MaxPool", MAP, kernel_shape=[2, 3], pads=[0, 1, 1, 2], dilations=[1, 2]),
    case("AveragePool", MAP, kernel_shape=[2, 2], strides=[2, 2]),
    case("AveragePool", MAP, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    case("AveragePool", MAP, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
    case("GlobalAveragePool", MAP),
    case("BatchNormalization", MAP, SCALE, BIAS, 0.1 * BIAS, SCALE),
    case("BatchNormalization", MAP, SCALE, BIAS, 0.1 * BIAS, SCALE, epsilon=0.1, momentum=0.5),
    case("InstanceNormalization", MAP, SCALE, BIAS),
    case("InstanceNormalization", Data(2, 6, 30), SCALE, BIAS, epsilon=0.1),
    case("InstanceNormalization", Data(1, 6, 2), SCALE, BIAS, name="two values"),
    case("LayerNormalization", Data(2, 3, 6), SCALE, BIAS),
    case("LayerNormalization", Data(2, 3, 6), SCALE, axis=-1, epsilon=1e-6, stash_type=1),
    case("LayerNormalization", Data(2, 3, 2), SCALE.reshape(3, 2), BIAS.reshape(3, 2), axis=1),
    case("Resize", MAP, None, np.float32([1, 1, 2, 2]), mode="linear", cubic_coeff_a=-0.75),
    case("Resize", MAP, None, np.float32([1, 1, 0.5, 1.5]), mode="linear"),
    case("Resize", MAP, None, None, ints(2, 6, 20, 7), mode="linear", nearest_mode="floor"),
    case("Resize", MAP, None, np.float32([1, 1, 2, 2]), mode="cubic"),
    case(
        "Resize", MAP, None, None, ints(2, 6, 20, 13), mode="linear",
        coordinate_transformation_mode="align_corners",
    ),
    case(
        "Resize", MAP, None, np.float32([1, 1, 2, 3]), mode="nearest", nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    ),
]  # fmt: skip
SPATIAL += [
    case("GridSample", MAP, Data(2, 3, 5, 2, low=-1.2, high=1.2), **attributes)
    for attributes in (
        {},
        {"mode": "nearest", "padding_mode": "border"},
        {"mode": "bicubic", "padding_mode": "reflection", "align_corners": 1},
        {"mode": "bilinear", "padding_mode": "border", "align_corners": 1},
    )
]
CASES = [*ELEMENTWISE, *MATHEMATICS, *SHAPING, *SPATIAL]


def one_node(op, inputs, outputs, attributes, all_known):
    """Make a model of one operator; whole numbers and truth values come and go as float32.

    Returns:
        The model and, by name, what is to be fed.
    """
    names = [f"in{i}" if value is not None else "" for i, value in enumerate(inputs)]
    data = {
        name: value
        for name, value in zip(names, inputs, strict=True)
        if isinstance(value, Data) and not all_known
    }
    constants = {
        name: value.draw(5) if isinstance(value, Data) else value
        for name, value in zip(names, inputs, strict=True)
        if name and name not in data
    }
    nodes = []
    for name, value in data.items():
        if value.dtype != np.float32:
            nodes.append(helper.make_node("Cast", [f"{name}_f"], [name], to=TYPES[value.dtype]))
    raw = [f"raw{i}" for i in range(outputs)]
    nodes.append(helper.make_node(op, names, raw, **attributes))
    ends = [f"out{i}" for i in range(outputs)]
    nodes += [
        helper.make_node("Cast", [r], [e], to=TensorProto.FLOAT)
        for r, e in zip(raw, ends, strict=True)
    ]
    feeds = {n if v.dtype == np.float32 else f"{n}_f": v for n, v in data.items()}
    return model(nodes, {n: v.shape for n, v in feeds.items()}, ends, constants), feeds


@pytest.mark.parametrize("all_known", [False, True], ids=["data", "folded"])
@pytest.mark.parametrize(("op", "inputs", "outputs", "attributes"), CASES)
def test_operator_equals_onnx_runtime(op, inputs, outputs, attributes, all_known):
    made, feeds = one_node(op, inputs, outputs, attributes, all_known)
    run = Runner(made)
    for seed in (1, 2, 3):  # recorded, then run twice
        arrays = {
            name: value.draw([seed, zlib.crc32(name.encode())]).astype(np.float32)
            for name, value in feeds.items()
        }
        for found, wanted in zip(run(**arrays), run_onnx(made, arrays), strict=True):
            assert found.shape == wanted.shape
            np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)


def test_every_operator_of_the_table_is_compared():
    assert {param.values[0] for param in CASES} == set(OPERATORS)


def onnx_default(attribute):
    """Return an attribute's default as ONNX states it; None where it states none."""
    if not attribute.default_value.type:
        return None
    value = helper.get_attribute_value(attribute.default_value)
    return value.decode() if isinstance(value, bytes) else value


@pytest.mark.parametrize("op", [op for op, known in OPERATORS.items() if known.attributes])
def test_attributes_have_onnx_names_and_defaults(op):
    known = OPERATORS[op]
    stated = onnx.defs.get_schema(op, 17).attributes
    assert known.attributes <= set(stated)
    parameters = inspect.signature(known.compute).parameters
    for name in known.attributes:
        default = parameters[name].default
        if stated[name].required:
            assert default is inspect.Parameter.empty
        elif isinstance(wanted := onnx_default(stated[name]), float):
            assert default == pytest.approx(wanted)
        else:
            assert default == wanted


REFUSED = [
    case("Conv", MAP, KERNEL, auto_pad="SAME_UPPER"),
    case("ConvTranspose", MAP, KERNEL, pads=[0, 1, 1, 0]),
    case("AveragePool", MAP, kernel_shape=[2, 2], pads=[0, 0, 1, 1]),
    case("AveragePool", MAP, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    case("MaxPool", Data(2, 6, 9), kernel_shape=[2]),
    case("LayerNormalization", Data(2, 3, 6), Data(1), name="one scale"),
    case("Resize", MAP, None, np.float32([1, 2, 1, 1]), mode="linear"),
    case("Resize", MAP, None, np.float32([1, 1, 2, 2]), mode="nearest"),
    case("Resize", MAP, None, np.float32([1, 1, 2, 2]), mode="cubic", exclude_outside=1),
    case("Resize", MAP, None, np.float32([1, 1, 2, 2]), mode="cubic", cubic_coeff_a=-0.5),
    case(
        "Resize", MAP, None, np.float32([1, 1, 2, 2]), mode="linear",
        coordinate_transformation_mode="asymmetric",
    ),
    case("Pad", X, ints(1, 0, 0, 0, 0, 0), mode="reflect"),
    case("Clip", X, Data(low=-1, high=0), name="limit from data"),
    case("Cast", X, to=TensorProto.UINT64),
]  # fmt: skip


@pytest.mark.parametrize(("op", "inputs", "outputs", "attributes"), REFUSED)
def test_unknown_uses_of_an_operator_are_refused(op, inputs, outputs, attributes):
    made, feeds = one_node(op, inputs, outputs, attributes, all_known=False)
    with pytest.raises(BundleError, match=rf"graph\.onnx: .* cannot run operator {op} \(node"):
        Runner(made)(**{name: value.draw(0) for name, value in feeds.items()})
