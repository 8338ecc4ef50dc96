"""Reading ONNX graphs for torch, and the programs that come of them."""

import itertools
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from small_graphs import CPU, Runner, load, model, run_onnx, signature  # noqa: E402

from aopsam_ros.errors import BundleError, EngineError  # noqa: E402
from aopsam_ros.runtime.torch_engine.graph import load_graph  # noqa: E402
from aopsam_ros.runtime.torch_engine.recording import Weights, record  # noqa: E402

node = helper.make_node


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def ints(*values):
    return np.array(values, np.int64)


def recorded(made, half=False, **feeds):
    """Return the program for these inputs."""
    graph = load(made)
    tensors = {name: torch.from_numpy(feeds[name]) for name in graph.inputs}
    with torch.inference_mode():
        return record(graph, Weights(graph.body.constants, CPU), tensors, half)[0]


def assert_equals_onnx(made, *inputs, **close):
    run = Runner(made)
    for feeds in inputs:
        for _ in range(2):  # recorded, then run
            for found, wanted in zip(run(**feeds), run_onnx(made, feeds), strict=True):
                np.testing.assert_allclose(found, wanted, **{"rtol": 1e-5, "atol": 1e-5, **close})


def einsum():
    return node("Einsum", ["x", "x"], ["y"], name="odd", equation="ij,ij->ij")


def test_unknown_operator_is_refused_by_name():
    made = model([einsum()], {"x": (2, 2)}, ["y"])
    reason = r"encoder\.onnx: engine 'torch' cannot run operator Einsum \(node 'odd'\): .* unknown"
    with pytest.raises(BundleError, match=reason):
        load(made, "encoder.onnx")


def test_operator_of_another_domain_is_refused():
    made = model([node("Relu", ["x"], ["y"])], {"x": (2,)}, ["y"])
    made.graph.node[0].domain = "com.example"
    made.opset_import.append(helper.make_opsetid("com.example", 1))
    with pytest.raises(BundleError, match=r"operator com\.example\.Relu"):
        load(made)


def test_second_output_is_refused():
    made = model(
        [node("MaxPool", ["x"], ["y", "places"], kernel_shape=[2, 2])], {"x": (1, 1, 4, 4)}, ["y"]
    )
    with pytest.raises(BundleError, match=r"MaxPool .* its output 2 is unknown"):
        load(made)


@pytest.mark.parametrize(("opset", "known"), [(12, False), (13, True), (17, True), (18, False)])
def test_operator_sets(opset, known):
    made = model([node("Relu", ["x"], ["y"])], {"x": (2,)}, ["y"], opset=opset)
    if known:
        assert_equals_onnx(made, {"x": numbers(2)})
    else:
        with pytest.raises(BundleError, match=f"operator set {opset}, but .* knows 13 to 17"):
            load(made)


def test_weights_in_other_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").write_bytes(numbers(2).tobytes())
    made = model([node("Add", ["x", "w"], ["y"])], {"x": (2,)}, ["y"], {"w": numbers(2)})
    wanted = signature(made)
    weight = made.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="weights")
    with pytest.raises(BundleError, match=r"g\.onnx: w is stored in another file"):
        load_graph(made.SerializeToString(), "g.onnx", wanted)


def test_sparse_weights_are_refused():
    made = model([node("Relu", ["x"], ["y"])], {"x": (2,)}, ["y"])
    values = numpy_helper.from_array(numbers(1), "sparse")
    places = numpy_helper.from_array(ints(1), "places")
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [2]))
    with pytest.raises(BundleError, match="no sparse weights"):
        load(made)


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x08\x08"])
def test_what_is_not_onnx_is_refused(content):
    wanted = signature(model([node("Relu", ["x"], ["y"])], {"x": (2,)}, ["y"]))
    with pytest.raises(BundleError, match=r"g\.onnx: not a valid ONNX graph") as raised:
        load_graph(content, "g.onnx", wanted)
    assert "\n" not in str(raised.value)


def test_graph_with_a_missing_link_is_refused():
    made = model([node("Relu", ["x"], ["y"])], {"x": (2,)}, ["y"])
    made.graph.node[0].input[0] = "nowhere"
    with pytest.raises(BundleError, match="not a valid ONNX graph"):
        load(made)


def test_constants_that_contradict_each_other_are_refused():
    constants = {"a": numbers(2), "b": numbers(3)}
    nodes = [node("Add", ["x", "x"], ["y"])]
    made = model(nodes, {"x": (2,)}, ["y"], constants)
    made.graph.node.append(node("Add", ["a", "b"], ["z"], name="wrong"))
    with pytest.raises(BundleError, match=r"operator Add \(node 'wrong'\)"):
        load(made)


def test_missing_onnx_package_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(EngineError, match=r"onnx package.* pip install onnx"):
        load_graph(b"", "g.onnx", None)


def rows_of_any_number():
    """Reshape by a chain of nodes that compute the sizes, as exporters write it."""
    constants = {"zero": ints(0)[()], "first": ints(0), "rest": ints(-1), "w": numbers(6, 4)}
    nodes = [
        node("Shape", ["x"], ["sizes"]),
        node("Gather", ["sizes", "first"], ["count"]),
        node("Concat", ["count", "rest"], ["shape"], axis=0),
        node("Reshape", ["x", "shape"], ["rows"]),
        node("MatMul", ["rows", "w"], ["product"]),
        node("ConstantOfShape", ["count"], ["zeros"], value=numpy_helper.from_array(ints(2))),
        node("Cast", ["zeros"], ["twos"], to=TensorProto.FLOAT),
        node("Unsqueeze", ["twos", "rest"], ["column"]),
        node("Mul", ["product", "column"], ["y"]),
    ]
    return model(nodes, {"x": ("N", 2, 3)}, ["y"], constants)


def test_sizes_follow_the_input():
    made = rows_of_any_number()
    assert_equals_onnx(made, *({"x": numbers(n, 2, 3, seed=n)} for n in (1, 4, 2)))


def test_program_holds_only_what_works_on_data():
    program = recorded(rows_of_any_number(), x=numbers(5, 2, 3))
    assert len(program.steps) == 3  # reshape, product, product with what was made of sizes
    assert not any(
        isinstance(argument, torch.Tensor) and not argument.is_floating_point()
        for step in program.steps
        for argument in step.arguments
    )


def test_weights_are_brought_to_the_device_once():
    graph = load(rows_of_any_number())
    weights = Weights(graph.body.constants, CPU)
    used = []
    for count in (1, 2):
        x = torch.from_numpy(numbers(count, 2, 3))
        program, _ = record(graph, weights, {"x": x}, half=True)
        tensors = [a for step in program.steps for a in step.arguments if torch.is_tensor(a)]
        used.append([tensor for tensor in tensors if tensor.ndim == 2 and len(tensor) == 6])
    ((first,), (second,)) = used
    assert first is second and first.dtype == torch.float16


def test_size_that_depends_on_data_is_refused():
    nodes = [
        node("Cast", ["x"], ["sizes"], to=TensorProto.INT64),
        node("Reshape", ["x", "sizes"], ["y"], name="free"),
    ]
    made = model(nodes, {"x": (1,)}, ["y"])
    with pytest.raises(BundleError, match=r"Reshape \(node 'free'\): its input 2 depends on data"):
        Runner(made)(x=np.ones(1, np.float32))


def branch(output, nodes, constants=()):
    return helper.make_graph(
        nodes, "branch", [], [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        list(constants),
    )  # fmt: skip


def raised_if_single():
    """Add a constant of one branch to a single row, and leave several alone."""
    weight = numpy_helper.from_array(numbers(3), "inner_weight")
    single = branch("sum", [node("Add", ["x", "inner_weight"], ["sum"])], [weight])
    several = branch("same", [node("Identity", ["x"], ["same"])])
    nodes = [
        node("Shape", ["x"], ["sizes"]),
        node("Gather", ["sizes", "zero"], ["count"]),
        node("Equal", ["count", "one"], ["is_single"]),
        node("If", ["is_single"], ["y"], then_branch=single, else_branch=several),
    ]
    constants = {"zero": ints(0)[0], "one": ints(1)[0]}
    return model(nodes, {"x": ("N", 3)}, ["y"], constants)


def test_branches_follow_sizes():
    assert_equals_onnx(raised_if_single(), {"x": numbers(1, 3)}, {"x": numbers(2, 3)})


def test_branch_that_depends_on_data_is_refused():
    made = raised_if_single()
    made.graph.node.insert(0, node("ReduceMax", ["x"], ["largest"], keepdims=0))
    made.graph.node.insert(1, node("Cast", ["largest"], ["positive"], to=TensorProto.BOOL))
    made.graph.node[-1].input[0] = "positive"
    with pytest.raises(BundleError, match=r"operator If .* its condition depends on data"):
        Runner(made)(x=numbers(2, 3))


def test_unknown_operator_in_a_branch_is_refused():
    made = raised_if_single()
    (several,) = [item.g for item in made.graph.node[-1].attribute if item.name == "else_branch"]
    several.node[0].CopyFrom(einsum())
    several.node[0].output[0] = "same"
    with pytest.raises(BundleError, match="operator Einsum"):
        load(made)


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Identity", ["x"], ["y"])],
        [node("Reshape", ["x", "shape"], ["y"])],
        [node("Identity", ["w"], ["y"])],
        [node("Transpose", ["w"], ["t"]), node("Identity", ["t"], ["y"])],
        [node("Shape", ["x"], ["s"]), node("Expand", ["w", "s"], ["y"])],
    ],
    ids=["input", "view of input", "constant", "view of constant", "of sizes"],
)
def test_outputs_are_the_callers_own(nodes):
    made = model(nodes, {"x": (2, 2)}, ["y"], {"shape": ints(2, 2), "w": numbers(2, 2)})
    run, x = Runner(made), torch.from_numpy(numbers(2, 2, seed=1))
    feeds = {"x": x.numpy().copy()}
    program = recorded(made, **feeds)
    for call in (lambda: run(**feeds)[0], lambda: program.run(x)[0].numpy()):
        first = call().copy()
        call()[:] = np.nan
        np.testing.assert_array_equal(call(), first)
        np.testing.assert_array_equal(x.numpy(), feeds["x"])


def chain(length):
    names = ["x", *(f"v{i}" for i in range(length - 1)), "y"]
    return [node("Exp", [a], [b]) for a, b in itertools.pairwise(names)]


def test_values_are_freed_after_their_last_use():
    nodes = [*chain(20), node("Add", ["y", "v3"], ["z"])]
    program = recorded(model(nodes, {"x": (2,)}, ["y", "z"]), x=-numbers(2))
    alive, most = set(program.inputs), 0
    for step in program.steps:
        assert {key for _, key in step.values} <= alive
        alive |= set(step.results)
        most = max(most, len(alive))
        alive -= set(step.dropped)
    assert most <= 4 and {name for name, _ in alive} == {"y", "z"}


def test_nodes_and_weights_that_nothing_uses_are_left_out():
    nodes = [node("Relu", ["x"], ["y"]), node("Add", ["x", "w"], ["unused"])]
    made = model(nodes, {"x": (2,)}, ["y"], {"w": numbers(2)})
    graph = load(made)
    assert [n.op for n in graph.body.nodes] == ["Relu"] and not graph.body.constants


def gelu(*, half=0.5, root=2.0**0.5, swapped=False, divided="x"):
    constants = {"root": np.float32(root), "one": np.float32(1), "half": np.float32(half)}

    def pair(a, b):
        return [b, a] if swapped else [a, b]

    nodes = [
        node("Div", [divided, "root"], ["scaled"]),
        node("Erf", ["scaled"], ["erf"]),
        node("Add", pair("erf", "one"), ["sum"]),
        node("Mul", pair("x", "sum"), ["product"]),
        node("Mul", pair("product", "half"), ["y"]),
    ]
    return model(nodes, {"x": (3, 50), "other": (3, 50)}, ["y"], constants)


@pytest.mark.parametrize("swapped", [False, True])
def test_spelled_out_gelu_is_one_call(swapped):
    made = gelu(swapped=swapped)
    feeds = {"x": 3 * numbers(3, 50), "other": numbers(3, 50)}
    assert len(recorded(made, **feeds).steps) == 1
    assert_equals_onnx(made, feeds)


@pytest.mark.parametrize("change", [{"half": 0.51}, {"root": 1.4}, {"divided": "other"}])
def test_what_only_looks_like_gelu_is_left_alone(change):
    made = gelu(**change)
    feeds = {"x": 3 * numbers(3, 50), "other": numbers(3, 50)}
    assert len(recorded(made, **feeds).steps) == 5
    assert_equals_onnx(made, feeds)


def linear(swapped=False, bias=(4,), outputs=("y",)):
    sum_of = ["b", "product"] if swapped else ["product", "b"]
    nodes = [node("MatMul", ["x", "w"], ["product"]), node("Add", sum_of, ["y"])]
    return model(
        nodes, {"x": (2, 5, 3)}, list(outputs), {"w": numbers(3, 4), "b": numbers(*bias, seed=1)}
    )


@pytest.mark.parametrize("swapped", [False, True])
def test_linear_layer_is_one_call(swapped):
    made = linear(swapped)
    assert len(recorded(made, x=numbers(2, 5, 3)).steps) == 1
    assert_equals_onnx(made, {"x": numbers(2, 5, 3)})


@pytest.mark.parametrize("change", [{"bias": (5, 4)}, {"bias": ()}, {"outputs": ("y", "product")}])
def test_other_sums_of_products_are_left_alone(change):
    made = linear(**change)
    assert len(recorded(made, x=numbers(2, 5, 3)).steps) == 2
    assert_equals_onnx(made, {"x": numbers(2, 5, 3)})


def test_half_precision_but_for_what_needs_more():
    constants = {"w": numbers(4, 4), "g": np.ones(4, np.float32), "zero": ints(0)}
    nodes = [
        node("MatMul", ["x", "w"], ["product"]),
        node("LayerNormalization", ["product", "g"], ["norm"], axis=-1),
        node("Relu", ["norm"], ["positive"]),
        node("Mul", ["norm", "norm"], ["square"]),
        node("Softmax", ["positive"], ["weights"]),
        node("MatMul", ["weights", "square"], ["mixed"]),
        node("Add", ["mixed", "mixed"], ["y"]),
    ]
    made = model(nodes, {"x": (4, 4)}, ["y"], constants)
    program = recorded(made, half=True, x=numbers(4, 4))
    found = [(step.results[0][0], step.results[0][1]) for step in program.steps]
    half, full = torch.float16, torch.float32
    assert found == [
        ("x", half), ("product", half), ("product", full), ("norm", full), ("norm", half),
        ("positive", half), ("square", half), ("positive", full), ("weights", full),
        ("weights", half), ("mixed", half), ("y", half), ("y", full),
    ]  # fmt: skip
    assert program.steps[1].arguments[1].dtype == half  # weights are stored as they are used
    run = Runner(made, half=True)
    for _ in range(2):
        (y,) = run(x=numbers(4, 4))
        assert y.dtype == np.float32
        np.testing.assert_allclose(y, run_onnx(made, {"x": numbers(4, 4)})[0], rtol=0.02, atol=0.02)


def test_coordinates_never_go_through_16_bits():
    constants = {
        "offset": np.float32(1000.0), "large": np.float32(1000.0), "cells": ints(0, 1),
        "row": np.arange(2, dtype=np.float32), "w": numbers(2, 2),
    }  # fmt: skip
    nodes = [
        node("Sub", ["point_coords", "offset"], ["near"]),
        node("Gather", ["near", "cells"], ["same"], axis=2),
        node("Sub", ["same", "row"], ["relative"]),
        node("Mul", ["relative", "large"], ["exact"]),
        node("MatMul", ["exact", "w"], ["mixed"]),
        node("Cast", ["point_labels"], ["kind"], to=TensorProto.INT64),
        node("Cast", ["kind"], ["kind_float"], to=TensorProto.FLOAT),
        node("Unsqueeze", ["kind_float", "last"], ["kinds"]),
        node("Add", ["mixed", "kinds"], ["y"]),
        node("Mul", ["image", "large"], ["other"]),
        node("Add", ["other", "y"], ["z"]),
    ]
    made = model(
        nodes,
        {"image": (1, 1, 2), "point_coords": ("N", "K", 2), "point_labels": ("N", "K")},
        ["y", "z"],
        constants | {"last": ints(-1)},
    )
    feeds = {
        "image": numbers(1, 1, 2),
        "point_coords": np.float32([[[1000.3, 999.8], [1000.1, 1003.7]]]),
        "point_labels": np.float32([[1, -1]]),
    }
    wanted = run_onnx(made, feeds)[0]
    run = Runner(made, half=True)
    for _ in range(2):
        np.testing.assert_allclose(run(**feeds)[0], wanted, rtol=1e-6)
    steps = recorded(made, half=True, **feeds).steps
    half = {name for step in steps for name, dtype in step.results if dtype == torch.float16}
    assert half == {"image", "other", "y", "z"}  # only what meets the image


def test_places_to_sample_at_never_go_through_16_bits():
    nodes = [node("GridSample", ["image", "grid"], ["y"], mode="nearest")]
    made = model(nodes, {"image": (1, 1, 1, 2048), "grid": (1, 1, "N", 2)}, ["y"])
    places = np.arange(2048)[::7]
    x = (2 * places + 1) / 2048 - 1
    grid = np.stack([x, 0 * x], -1).astype(np.float32)[None, None]
    image = np.arange(2048, dtype=np.float32).reshape(1, 1, 1, -1)
    (found,) = Runner(made, half=True)(image=image, grid=grid)
    np.testing.assert_array_equal(found.ravel(), places)


SHAPES = ((-1, 4, 3), (-1, 2, 6), (-1, 12, 1))
STEPS = st.one_of(
    st.sampled_from(["Relu", "Sin", "Neg", "Identity"]).map(lambda op: (op, None)),
    st.permutations([1, 2]).map(lambda order: ("Transpose", [0, *order])),
    st.sampled_from(SHAPES).map(lambda shape: ("Reshape", shape)),
    st.integers(0, 30).map(lambda place: ("Add", place)),
)


def spelled_out(steps):
    """Make nodes that pass a value on, each naming its output `value0`, `value1` and so on."""
    nodes, values = [], ["x"]
    for op, how in steps:
        name = f"value{len(values) - 1}"
        if op == "Transpose":
            made = node(op, values[-1:], [name], perm=how)
        elif op == "Reshape":
            made = node(op, [values[-1], f"shape{SHAPES.index(how)}"], [name])
        elif op == "Add":  # with an earlier value, both as vectors
            pair = values[-1], values[how % len(values)]
            flat = [f"{name}_{i}" for i in range(2)]
            nodes += [node("Flatten", [v], [f]) for v, f in zip(pair, flat, strict=True)]
            nodes.append(node("Add", flat, [f"{name}_sum"]))
            made = node("Reshape", [f"{name}_sum", "shape0"], [name])
        else:
            made = node(op, values[-1:], [name])
        nodes.append(made)
        values.append(name)
    return nodes, values


@given(st.lists(STEPS, min_size=1, max_size=12), st.integers(0, 30))
def test_random_graphs_equal_onnx_runtime(steps, place):
    """Values used once, twice, late or never, views of views, inner values as outputs."""
    nodes, values = spelled_out(steps)
    outputs = list(dict.fromkeys([values[-1], values[1 + place % (len(values) - 1)]]))
    constants = {f"shape{i}": ints(*shape) for i, shape in enumerate(SHAPES)}
    made = model(nodes, {"x": ("N", 4, 3)}, outputs, constants)
    assert_equals_onnx(made, {"x": numbers(2, 4, 3)}, {"x": numbers(5, 4, 3)})
