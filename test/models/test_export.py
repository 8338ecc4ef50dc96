"""MobileSAM with random weights, exported, is what torch computes; a wrong graph is refused."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from random_weights import uniform  # noqa: E402

from aopsam_ros.errors import BundleError, VerificationError  # noqa: E402
from aopsam_ros.models import export, onnx_graphs  # noqa: E402
from aopsam_ros.models.export import BundleParts, export_bundle  # noqa: E402
from aopsam_ros.models.mobile_sam import PointDecoder  # noqa: E402
from aopsam_ros.runtime.bundle import load_bundle  # noqa: E402
from aopsam_ros.segmenter import Segmenter  # noqa: E402

SIZE = 64  # pixels of the small model's image
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def graph_of(folder, name):
    """Return a graph with the shapes and types of all its values."""
    loaded = onnx.load(str(folder / f"{name}.onnx"))
    return onnx.shape_inference.infer_shapes(loaded, strict_mode=True, data_prop=True).graph


def sizes_of(values):
    return {
        v.name: [size.dim_param or size.dim_value for size in v.type.tensor_type.shape.dim]
        for v in values
    }


def test_the_description_fits_the_model(exported):
    bundle = load_bundle(exported.folder)
    assert (bundle.name, bundle.image_size, bundle.low_res_mask_size) == ("small", SIZE, SIZE // 4)
    assert bundle.embedding_shape == (1, 256, SIZE // 16, SIZE // 16)
    assert (bundle.similarity_channels, bundle.confidence_map_size) == (256, SIZE // 4)
    assert bundle.mean == (123.675, 116.28, 103.53) and bundle.std == (58.395, 57.12, 57.375)
    for graphs in (bundle.graphs, bundle.mixed_graphs):
        assert set(graphs) == {"encoder", "prompt_predictor", "mask_decoder"}
        for graph in graphs.values():
            graph.read()  # and compare its hash


def test_the_comparison_names_every_graph(exported):
    graphs = {"encoder", "prompt_predictor", "mask_decoder"}
    assert set(exported.comparison.differences) == set(exported.comparison.cosines) == graphs
    assert 0 < max(exported.comparison.differences.values()) < 1e-4
    assert 0.999 < min(exported.comparison.cosines.values()) < 1


# Nodes whose sizes an engine must compute, and those that repeat_interleave and branches make.
UNWANTED = {
    "OneHot", "Tile", "Loop", "If", "Scan", "Shape", "Size", "Range", "Expand", "ConstantOfShape",
    "NonZero", "Where", "ScatterND", "GatherND", "Resize",
}  # fmt: skip


@pytest.mark.parametrize("name", ["encoder", "mask_decoder"])
@pytest.mark.parametrize("kind", ["", ".mixed"])
def test_graphs_hold_plain_operators_only(exported, name, kind):
    nodes = onnx.load(str(exported.folder / f"{name}{kind}.onnx")).graph.node
    operators = {node.op_type for node in nodes}
    assert not operators & UNWANTED
    assert {"MatMul", "LayerNormalization", "Softmax"} <= operators
    assert {node.domain for node in nodes} == {""}


@pytest.mark.parametrize("kind", ["", ".mixed"])
def test_only_prompts_and_points_are_dynamic(exported, kind):
    decoder = graph_of(exported.folder, f"mask_decoder{kind}")
    assert sizes_of(decoder.input) == {
        "embedding": [1, 256, 4, 4],
        "point_coords": ["prompts", "points", 2],
        "point_labels": ["prompts", "points"],
    }
    assert sizes_of(decoder.output) == {
        "low_res_logits": ["prompts", 3, 16, 16],
        "predicted_iou": ["prompts", 3],
    }
    encoder = graph_of(exported.folder, f"encoder{kind}")
    assert sizes_of(encoder.input) == {"image": [1, 3, SIZE, SIZE]}
    assert sizes_of(encoder.output) == {"embedding": [1, 256, 4, 4]}
    assert all(
        isinstance(size, int) and size > 0
        for sizes in sizes_of(encoder.value_info).values()
        for size in sizes
    )


@pytest.fixture(scope="module")
def segmenter(exported):
    with Segmenter.from_bundle(exported.folder, "onnxruntime", threads=1) as segmenter:
        yield segmenter


@pytest.fixture(scope="module")
def picture():
    return uniform("picture", (SIZE, SIZE, 3), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def frame(segmenter, picture):
    return segmenter.encode(picture)


@pytest.fixture(scope="module")
def embedding(model, picture):
    """Torch's, of the picture as SAM normalises it."""
    mean, std = (torch.tensor(v) for v in ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)))
    image = (torch.from_numpy(picture).float() - mean) / std
    with torch.no_grad():
        return model.image_encoder(image.permute(2, 0, 1)[None])


def test_the_encoder_in_the_runtime_equals_torch(segmenter, frame, embedding):
    found = segmenter._model.runtime.embedding(frame.handle)
    assert embedding.std() > 0.1
    np.testing.assert_allclose(found, embedding.numpy(), **CLOSE)


@pytest.mark.parametrize("points", [1, 2, 4])
@pytest.mark.parametrize("prompts", [1, 2, 7])
def test_the_decoder_in_the_runtime_equals_torch(
    segmenter, frame, model, embedding, prompts, points
):
    shape = (prompts, points)
    coords = uniform(f"coords {shape}", (*shape, 2), -5.0, SIZE + 5.0)
    labels = np.floor(uniform(f"labels {shape}", shape, -1.0, 4.0))
    labels[0] = [1, -1, -1, -1][:points]
    logits, iou = segmenter.decode(frame, coords, labels)
    with torch.no_grad():
        decoder = PointDecoder(model).eval()
        wanted, score = decoder(embedding, torch.from_numpy(coords), torch.from_numpy(labels))
    assert logits.shape == (prompts, 3, SIZE // 4, SIZE // 4) and iou.shape == (prompts, 3)
    np.testing.assert_allclose(logits, wanted.numpy(), **CLOSE)
    np.testing.assert_allclose(iou, score.numpy(), **CLOSE)


def test_the_predictor_in_the_runtime_equals_torch(segmenter, frame, predictor, embedding):
    found = segmenter._model.confidence_map(frame)
    with torch.no_grad():
        wanted = predictor(torch.from_numpy(frame.image.tensor), embedding)[0, 0]
    assert wanted.std() > 0.005
    np.testing.assert_allclose(found, wanted.numpy(), **CLOSE)


class Doubled(torch.nn.Module):
    """Differs from torch by `off` once it is a graph."""

    def __init__(self, off):
        super().__init__()
        self.off = off

    def forward(self, x):
        return 2.0 * x + (self.off if torch.onnx.is_in_onnx_export() else 0.0)


def plan(module):
    return onnx_graphs.GraphPlan("doubled", module, ("y",), [{"x": torch.ones(1, 3)}], {})


@pytest.mark.parametrize("off", [0.0, 9e-4, -9e-4])
def test_a_small_difference_is_told(tmp_path, off):
    found = onnx_graphs.export_graph(plan(Doubled(off)), tmp_path)
    assert found.difference == pytest.approx(abs(off), abs=1e-6)
    assert found.shapes == {"y": (1, 3)}


@pytest.mark.parametrize("off", [1.1e-3, -0.5, float("nan"), float("inf")])
def test_a_larger_difference_is_refused(tmp_path, off):
    with pytest.raises(BundleError, match=r"^doubled\.onnx: differs from torch by .+ 0\.001$"):
        onnx_graphs.export_graph(plan(Doubled(off)), tmp_path)


class TinyEncoder(torch.nn.Module):
    def forward(self, image):
        return torch.nn.functional.avg_pool2d(image, 4)


class TinyDecoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3, 8, 8))

    def forward(self, embedding, coords, labels):
        asked = (coords.sum(-1) * labels).sum(1)[:, None, None, None]
        return self.weight * asked + embedding, asked[..., 0, 0] * self.weight[:, 0, 0]


TINY = BundleParts(TinyEncoder(), TinyDecoder(), None, 32, 3, (0.0,) * 3, (1.0,) * 3)


@pytest.fixture
def bundle(tmp_path):
    """A bundle with mixed graphs, of the smallest modules that make one."""
    export_bundle(TINY, tmp_path / "bundle", facts("1"), mixed=True)
    return tmp_path / "bundle"


def facts(version):
    return {"name": "t", "version": version, "licence": "-", "defaults": {}, "provenance": {}}


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_new_export_takes_the_place_of_the_former(bundle, tmp_path):
    assert len(contents(bundle)) == 5
    export_bundle(TINY, bundle, facts("2"))
    assert load_bundle(bundle).version == "2"
    assert set(contents(bundle)) == {"bundle.yaml", "encoder.onnx", "mask_decoder.onnx"}
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_refused_export_leaves_the_former_bundle(bundle, tmp_path, monkeypatch):
    def run(path, samples):
        off = 2e-3 if path.name == "mask_decoder.onnx" else 0.0
        return [[output + off for output in outputs] for outputs in real(path, samples)]

    real, before = onnx_graphs.run_graph, contents(bundle)
    monkeypatch.setattr(onnx_graphs, "run_graph", run)
    with pytest.raises(BundleError, match=r"mask_decoder\.onnx: differs from torch by 0\.002"):
        export_bundle(TINY, bundle, facts("2"))
    assert contents(bundle) == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_bad_mixed_graph_is_refused(bundle, monkeypatch):
    def run(path, samples):
        sign = -1 if path.name == "mask_decoder.mixed.onnx" else 1
        return [[sign * output for output in outputs] for outputs in real(path, samples)]

    real, before = export.run_graph, contents(bundle)
    monkeypatch.setattr(export, "run_graph", run)
    with pytest.raises(VerificationError, match=r"^mask_decoder\.mixed\.onnx: .* cosine is -1"):
        export_bundle(TINY, bundle, facts("2"), mixed=True)
    assert contents(bundle) == before


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(BundleError, match="holds other files"):
        export_bundle(TINY, tmp_path, facts("1"))
    with pytest.raises(BundleError, match="is a file"):
        export_bundle(TINY, tmp_path / "thesis.tex", facts("1"))
    assert list(contents(tmp_path)) == ["thesis.tex"]
