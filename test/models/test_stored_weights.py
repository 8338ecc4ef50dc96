"""Weights in exported graphs: in 16 bits, and found again."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from torch import nn  # noqa: E402

from aopsam_ros.errors import BundleError, InputError  # noqa: E402
from aopsam_ros.models.export import export_bundle, nano_parts  # noqa: E402
from aopsam_ros.models.loading import load_weights  # noqa: E402
from aopsam_ros.models.nano import NanoSegmenter  # noqa: E402
from aopsam_ros.models.onnx_graphs import GraphPlan, export_graph, run_graph  # noqa: E402
from aopsam_ros.models.stored_weights import parse_graph, round_weights  # noqa: E402
from aopsam_ros.training.loop.trainer import start_from  # noqa: E402
from support import tiny_bundle  # noqa: E402

FACTS = {"name": "n", "version": "1", "licence": "x", "defaults": {}, "provenance": {}}


def graph_of(module, folder):
    sample = {"x": torch.randn(1, 3, 8, 8)}
    plan = GraphPlan("g", module.eval(), ("y",), [sample], {})
    export_graph(plan, folder)
    return folder / "g.onnx", sample


def test_rounded_weights_take_half_the_room_and_change_nothing(tmp_path):
    module = nn.Conv2d(3, 64, 5)
    before, _ = graph_of(module, tmp_path)
    full = before.stat().st_size
    round_weights(module)
    path, sample = graph_of(module, tmp_path)
    assert path.stat().st_size < 0.6 * full
    with torch.no_grad():
        expected = module(sample["x"]).numpy()
    np.testing.assert_allclose(run_graph(path, [sample])[0][0], expected, atol=1e-5)


def test_a_bundle_gives_back_the_weights_it_was_exported_from(tmp_path):
    torch.manual_seed(0)
    model = NanoSegmenter().eval()
    for parameter in model.parameters():  # no two equal, as after a step of training
        nn.init.normal_(parameter, std=0.05)
    round_weights(model)
    export_bundle(nano_parts(model, model.predictor, 96), tmp_path / "b", FACTS)
    weights = load_weights(tmp_path / "b")
    state = model.state_dict()
    assert set(weights) == set(state)
    for name, value in state.items():
        torch.testing.assert_close(weights[name].reshape(value.shape), value, atol=0, rtol=0)


def test_a_bundle_of_another_kind_is_refused(exported):
    with pytest.raises(InputError, match="another model"):
        start_from(NanoSegmenter(), load_weights(exported.folder))
    with pytest.raises(InputError, match="another model"):
        start_from(NanoSegmenter(), dict.fromkeys(NanoSegmenter().state_dict(), 3))


@pytest.mark.parametrize("table", ['{"a": ["nowhere", false]}', "of somebody else", "[1]"])
def test_a_table_that_is_not_ours_is_refused(tmp_path, table):
    encoder = tiny_bundle.encoder()
    encoder.metadata_props.add(key="weights", value=table)
    folder = tiny_bundle.write_tiny_bundle(tmp_path, {"encoder": encoder})
    with pytest.raises(InputError, match=r"encoder\.onnx: its weights cannot be read"):
        load_weights(folder)


def test_what_is_no_graph_is_refused():
    with pytest.raises(BundleError, match="x: not a readable ONNX file"):
        parse_graph(b"no ONNX", "x")
