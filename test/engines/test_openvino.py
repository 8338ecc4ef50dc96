"""The OpenVINO engine equals ONNX Runtime, and fails as it does."""

import sys

import pytest

from aopsam_ros.bundle.loading import load_bundle
from aopsam_ros.engines import registry
from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.engines.openvino import engine as openvino_engine
from aopsam_ros.engines.openvino.api import FP32, OpenVino
from aopsam_ros.engines.openvino.engine import OpenVinoEngine
from aopsam_ros.engines.registry import create_engine
from aopsam_ros.engines.verification import answers, sample_inputs
from aopsam_ros.errors import BundleError, EngineError
from support import tiny_bundle
from support.openvino_cases import NAMES, assert_close
from support.tiny_bundle import with_last, write_tiny_bundle

# Not importorskip: the package reports being imported over the network, if it is not hindered.
pytestmark = pytest.mark.needs("openvino")


@pytest.mark.parametrize("name", NAMES)
def test_equals_onnx_runtime_on_the_samples(bundles, engines, name):
    samples = sample_inputs(bundles(name))
    found, wanted = (answers(engine, samples) for engine in engines(name))
    assert set(found) == set(wanted)
    for output, array in wanted.items():
        assert_close(found[output], array)


def test_what_openvino_cannot_load_is_left_to_another_engine(tmp_path, openvino, caplog):
    unknown = with_last(tiny_bundle.encoder(), "embedding", "Unheard", {}, domain="elsewhere")
    bundle = load_bundle(write_tiny_bundle(tmp_path / "b", {"encoder": unknown}))
    with pytest.raises(EngineError, match=r"encoder\.onnx: OpenVINO cannot load it: ") as error:
        OpenVinoEngine(bundle, openvino=openvino)
    assert "\n" not in str(error.value) and "Exception from" not in str(error.value)
    with pytest.raises(BundleError, match="ONNX Runtime cannot load it"):
        create_engine(bundle)


@pytest.mark.parametrize("gains", [True, False])
def test_auto_takes_openvino_and_16_bits_where_the_processor_gains_by_them(
    bundle, with_bf16, monkeypatch, gains
):
    monkeypatch.setattr(registry.platform, "machine", lambda: "AMD64")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(with_bf16, "gains_by_bf16", gains)
    monkeypatch.setattr(openvino_engine, "OpenVino", lambda threads: with_bf16)
    engine = create_engine(bundle, EngineOptions(threads=1))
    assert (engine.name, engine.precision) == ("openvino", "bf16" if gains else "fp32")


def test_nothing_is_reported_over_the_network(openvino):
    assert "openvino_telemetry" not in sys.modules


def test_threads_are_those_asked_for_on_any_core():
    openvino = OpenVino(threads=1)  # more than there are processors cannot be had
    module = openvino.module
    taken = module.op.Parameter(module.Type.f32, module.Shape([8, 8]))
    compiled = openvino.compile(module.Model([module.opset8.relu(taken)], [taken], "relu"), FP32)
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
    assert not compiled.get_property("ENABLE_CPU_PINNING")
