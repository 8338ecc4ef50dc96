"""An export is compared with torch; one that differs is refused, and leaves what was there."""

import re

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from aopsam_ros.bundle.loading import load_bundle  # noqa: E402
from aopsam_ros.errors import BundleError, VerificationError  # noqa: E402
from aopsam_ros.models import export, onnx_graphs  # noqa: E402
from aopsam_ros.models.export import BundleParts, export_bundle  # noqa: E402


class Doubled(torch.nn.Module):
    """Differs from torch by `off` once it is a graph."""

    def __init__(self, off):
        super().__init__()
        self.off = off

    def forward(self, x):
        return 2.0 * x + (self.off if torch.onnx.is_in_onnx_export() else 0.0)


def plan(module):
    return onnx_graphs.GraphPlan("doubled", module, ("y",), [{"x": torch.full((1, 3), 0.5)}], {})


@pytest.mark.parametrize("off", [0.0, 9e-4, -9e-4])
def test_a_small_difference_is_told(tmp_path, off):
    found = onnx_graphs.export_graph(plan(Doubled(off)), tmp_path)
    assert found.difference == pytest.approx(abs(off), abs=1e-6)
    assert found.shapes == {"y": (1, 3)}


@pytest.mark.parametrize("off", [1.1e-3, -0.5, float("nan"), float("inf")])
def test_a_larger_difference_is_refused(tmp_path, off):
    with pytest.raises(BundleError, match=r"^doubled\.onnx: differs from torch by .+ 0\.001$"):
        onnx_graphs.export_graph(plan(Doubled(off)), tmp_path)


def test_the_difference_of_large_values_is_a_share_of_the_largest():
    """As of the logits of a trained SAM, which rounding alone takes more than 1e-3 away."""
    large, small = np.array([480.0, -3.0], np.float32), np.array([0.5, 0.0], np.float32)
    assert onnx_graphs.largest_difference([large + 0.125], [large]) == pytest.approx(0.125 / 480)
    assert onnx_graphs.largest_difference([small, large], [small + 0.12, large]) == (
        pytest.approx(0.12)
    )


@pytest.mark.parametrize("off", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("swapped", [False, True])
def test_what_is_not_finite_is_no_small_difference(off, swapped):
    pair = [np.array([1.0, off], np.float32)], [np.array([1.0, 2.0], np.float32)]
    found, expected = pair[::-1] if swapped else pair
    assert not onnx_graphs.largest_difference(found, expected) <= 1e6


@pytest.mark.parametrize("place", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_every_output_of_every_sample_is_compared(tmp_path, monkeypatch, place):
    class Pair(torch.nn.Module):
        def forward(self, x):
            return 2.0 * x, 3.0 * x

    def run(*words):
        found = real(*words)
        found[place[0]][place[1]][0, 2] += 0.5
        return found

    real = onnx_graphs.run_graph
    monkeypatch.setattr(onnx_graphs, "run_graph", run)
    samples = [{"x": torch.full((1, 3), 0.25)}, {"x": torch.zeros(1, 3)}]
    with pytest.raises(BundleError, match=r"differs from torch by 0\.5,"):
        onnx_graphs.export_graph(
            onnx_graphs.GraphPlan("pair", Pair(), ("y", "z"), samples, {}), tmp_path
        )


def test_nothing_is_kept_for_gradients(tmp_path):
    """Else tracing holds the attention of every layer: 7 of the 9 GB that SAM ViT-B took."""

    class Recorded(torch.nn.Linear):
        def forward(self, x):
            modes.append(torch.is_grad_enabled())
            return super().forward(x)

    modes = []
    onnx_graphs.export_graph(plan(Recorded(3, 2)), tmp_path)
    assert modes and not any(modes)


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


@pytest.mark.parametrize(
    ("module", "graph", "factor", "error"),
    [
        (onnx_graphs, "mask_decoder", 1.1, (BundleError, "differs from torch by")),
        (export, "mask_decoder.mixed", -1, (VerificationError, ".* cosine is -1")),
    ],
)
def test_a_refused_export_leaves_the_former_bundle(
    bundle, monkeypatch, module, graph, factor, error
):
    def run(path, samples):
        by = factor if path.name == f"{graph}.onnx" else 1
        return [[by * output for output in outputs] for outputs in real(path, samples)]

    real, before = module.run_graph, contents(bundle)
    monkeypatch.setattr(module, "run_graph", run)
    with pytest.raises(error[0], match=rf"{re.escape(graph)}\.onnx: {error[1]}"):
        export_bundle(TINY, bundle, facts("2"), mixed=True)
    assert contents(bundle) == before
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]


def test_facts_that_no_bundle_can_have_leave_the_former_bundle(bundle):
    before = contents(bundle)
    with pytest.raises(BundleError, match=rf"{bundle}/bundle.yaml: version must be text"):
        export_bundle(TINY, bundle, facts(""))  # --version "$VERSION", which is not set
    assert contents(bundle) == before


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(BundleError, match="holds other files"):
        export_bundle(TINY, tmp_path, facts("1"))
    with pytest.raises(BundleError, match="is a file"):
        export_bundle(TINY, tmp_path / "thesis.tex", facts("1"))
    assert list(contents(tmp_path)) == ["thesis.tex"]
