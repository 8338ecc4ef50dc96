"""Graphs in mixed precision: what stays in 32 bits, what does not, and that they still compute."""

import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from onnx import TensorProto  # noqa: E402

from aopsam_ros.errors import BundleError  # noqa: E402
from aopsam_ros.models.export import export_bundle, nano_parts  # noqa: E402
from aopsam_ros.models.mixed_precision import write_mixed  # noqa: E402
from aopsam_ros.models.nano import EMBEDDING_CHANNELS, NanoSegmenter  # noqa: E402
from aopsam_ros.models.prompt_predictor import PromptPredictor  # noqa: E402
from support.random_weights import uniform  # noqa: E402
from support.tiny_bundle import model_of  # noqa: E402

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
GRAPHS = ["encoder", "prompt_predictor", "mask_decoder"]
# Whatever else the converter may keep in 32 bits, these must be, and those must not.
DELICATE = {"LayerNormalization", "Softmax"}
HEAVY = {"Conv", "MatMul", "Gemm", "Erf", "Relu"}


class Types:
    """A graph with the element type of every value, and where its values come from."""

    def __init__(self, path):
        model = onnx.shape_inference.infer_shapes(onnx.load(str(path)), strict_mode=True)
        self.graph = model.graph
        values = [*self.graph.input, *self.graph.value_info, *self.graph.output]
        self.types = {v.name: v.type.tensor_type.elem_type for v in values}
        self.types |= {item.name: item.data_type for item in self.graph.initializer}

    def of(self, node):
        """Return the types of a node's floating-point inputs and outputs."""
        types = {self.types[name] for name in [*node.input, *node.output] if name}
        return types & {FLOAT, HALF}

    def descendants(self, names):
        """Return every value that depends on one of these."""
        found = set(names)
        for node in self.graph.node:
            if found & set(node.input):
                found.update(node.output)
        return found


@pytest.fixture(scope="module", params=GRAPHS)
def mixed(request, exported):
    return Types(exported.folder / f"{request.param}.mixed.onnx")


def test_inputs_outputs_norms_and_softmax_are_float32(mixed):
    assert {mixed.types[v.name] for v in [*mixed.graph.input, *mixed.graph.output]} == {FLOAT}
    for node in mixed.graph.node:
        if node.op_type in DELICATE:
            assert mixed.of(node) == {FLOAT}, node.name


def test_what_depends_on_the_image_is_float16(mixed):
    dependent = mixed.descendants({"image", "embedding"})
    nodes = [node for node in mixed.graph.node if dependent & set(node.output)]
    heavy = [frozenset(mixed.of(node)) for node in nodes if node.op_type in HEAVY]
    assert len(heavy) >= 8 and set(heavy) == {frozenset({HALF})}
    full = {node.op_type for node in nodes if FLOAT in mixed.of(node)}
    assert full <= DELICATE | {"Cast", "Exp", "Resize"}


def test_coordinates_never_pass_through_float16(exported):
    # In 16 bits, a pixel of 1024 has no fractions.
    decoder = Types(exported.folder / "mask_decoder.mixed.onnx")
    dependent = decoder.descendants({"embedding"})
    waves = [n for n in decoder.graph.node if n.op_type in ("Sin", "Cos")]
    assert len(waves) == 2
    wanted, before = {name for node in waves for name in node.input}, []
    for node in reversed(decoder.graph.node):
        if wanted & set(node.output):
            wanted.update(node.input)
            before.append(node)
    assert "point_coords" in wanted and not dependent & wanted
    assert all(HALF not in decoder.of(node) for node in [*before, *waves])


def inputs_of(name):
    """Other inputs than those that the export compares."""
    image = {"image": uniform("other image", (1, 3, 64, 64), -2.0, 2.0)}
    embedding = {"embedding": uniform("other embedding", (1, 256, 4, 4), -2.0, 2.0)}
    if name != "mask_decoder":
        return image if name == "encoder" else image | embedding
    coords = uniform("other coords", (6, 3, 2), 0.0, 64.0)
    labels = np.floor(uniform("other labels", (6, 3), -1.0, 4.0))
    masks = uniform("other masks", (6, 1, 16, 16), -5.0, 5.0)
    return {
        **embedding,
        "point_coords": coords,
        "point_labels": labels,
        "mask_input": masks,
        "has_mask_input": np.arange(6, dtype=np.float32) % 2,
    }


@pytest.mark.parametrize("name", GRAPHS)
def test_they_are_smaller_run_and_are_near(exported, name):
    paths = [exported.folder / f"{name}{kind}.onnx" for kind in ("", ".mixed")]
    assert paths[1].stat().st_size < 0.6 * paths[0].stat().st_size
    full, mixed = (run(path, name) for path in paths)
    for a, b in zip(full, mixed, strict=True):
        assert b.dtype == np.float32 and a.std() > 0.001
        assert a.ravel() @ b.ravel() / np.linalg.norm(a) / np.linalg.norm(b) > 0.999
        assert not np.array_equal(a, b)  # it is another precision


def run(path, name):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, inputs_of(name))


def test_nano_can_be_converted_as_well(tmp_path):
    torch.manual_seed(0)
    parts = nano_parts(NanoSegmenter().eval(), PromptPredictor(EMBEDDING_CHANNELS).eval(), 96)
    facts = {"name": "n", "version": "1", "licence": "-", "defaults": {}, "provenance": {}}
    comparison = export_bundle(parts, tmp_path / "n", facts, mixed=True)
    assert min(comparison.cosines.values()) > 0.999
    decoder = onnx.load(str(tmp_path / "n" / "mask_decoder.onnx"))
    assert not {"If", "Loop"} & {node.op_type for node in decoder.graph.node}


# Graphs made by hand.


def convert(tmp_path, text, **constants):
    onnx.save(
        model_of("float[2, 2] x", "float[2, 2] y", text, **constants), tmp_path / "graph.onnx"
    )
    write_mixed(tmp_path / "graph.onnx", tmp_path / "mixed.onnx")


@pytest.mark.parametrize("value", [7e4, -1e6, np.inf, np.nan])
def test_weights_that_do_not_fit_are_refused(tmp_path, value):
    weights = np.array([[1.0, value], [0.0, 1.0]], np.float32)
    with pytest.raises(BundleError, match=r"graph\.onnx: weights does not fit into 16 bits"):
        convert(tmp_path, "y = MatMul(x, weights)", weights=weights)
    assert not (tmp_path / "mixed.onnx").exists()


def test_branches_are_refused(tmp_path):
    branch = "g () => (float[2, 2] same) { same = Identity(x) }"
    text = f"y = If (choice) <then_branch = {branch}, else_branch = {branch}>"
    with pytest.raises(BundleError, match=r"graph\.onnx: If cannot be converted"):
        convert(tmp_path, text, choice=np.array(True))
