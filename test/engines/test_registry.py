"""The choice of an engine: what is asked for, or the best one that works, and a word on why."""

import sys
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from aopsam_ros.bundle.loading import ENCODER
from aopsam_ros.engines import registry
from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.engines.registry import create_engine
from aopsam_ros.errors import BundleError, CudaError, EngineError


@pytest.fixture(autouse=True)
def machine(monkeypatch, caplog):
    """An x86 computer without a GPU."""

    def no_driver():
        raise CudaError("no NVIDIA driver")

    for module in ("tensorrt.cuda", "registry"):
        monkeypatch.setattr(f"aopsam_ros.engines.{module}.load_driver", no_driver)
    monkeypatch.setattr(registry.platform, "machine", lambda: "x86_64")
    caplog.set_level("INFO", "aopsam_ros")


def stand_in(version="2026.4.1-22982-stand-in"):
    """Make a package whose core cannot be made."""
    error = RuntimeError("Exception from core.cpp:1:\nno plugin for CPU\n\n")
    return SimpleNamespace(__version__=version, Core=Mock(side_effect=error))


def test_unknown_engine_is_refused(bundle):
    with pytest.raises(EngineError, match="unknown engine 'ort'; known: auto, tensorrt"):
        create_engine(bundle, EngineOptions(engine="ort"))


UNUSABLE = {
    "missing": (None, "cannot be imported .*pip install openvino"),
    "old": (stand_in("2023.3.0-13775"), r"OpenVINO 2023\.3\.0-13775 is too old: 2024\.0 or newer"),
    "of another time": (stand_in("nightly"), "OpenVINO nightly is too old"),
    "broken": (stand_in(), "engine 'openvino' cannot be used: no plugin for CPU"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_an_unusable_openvino_is_a_clear_error_and_auto_does_without(
    bundle, monkeypatch, caplog, case
):
    package, reason = UNUSABLE[case]
    monkeypatch.setitem(sys.modules, "openvino", package)
    with pytest.raises(EngineError, match=reason) as error:
        create_engine(bundle, EngineOptions(engine="openvino"))
    assert "\n" not in str(error.value)
    assert create_engine(bundle).name == "onnxruntime"
    (record,) = caplog.records
    assert record.levelname == "INFO"  # nothing stays idle
    assert f"; openvino: {error.value}" in record.message


class Chosen:
    name, device = "openvino", "cpu"

    def __init__(self, bundle, options):
        self.asked = bundle, options


@pytest.fixture
def openvino(monkeypatch):
    """OpenVINO's engine, which takes any bundle."""
    module = SimpleNamespace(OpenVinoEngine=Chosen)
    monkeypatch.setitem(sys.modules, "aopsam_ros.engines.openvino.engine", module)


@pytest.mark.parametrize("precision", registry.FLOATS)
def test_auto_takes_openvino_on_x86(bundle, openvino, caplog, precision):
    engine = create_engine(bundle, EngineOptions(threads=3, precision=precision))
    assert engine.asked == (bundle, EngineOptions(threads=3, precision=precision))
    (record,) = caplog.records
    assert record.message.startswith("engine openvino on cpu (auto; tensorrt: ")


def test_auto_takes_onnxruntime_on_other_processors(bundle, openvino, monkeypatch, caplog):
    monkeypatch.setattr(registry.platform, "machine", lambda: "aarch64")
    assert create_engine(bundle).name == "onnxruntime"
    assert "; openvino: not measured on aarch64)" in caplog.text
    assert create_engine(bundle, EngineOptions(engine="openvino")).name == "openvino"


@pytest.mark.parametrize(
    ("dot_products", "amx", "precision", "name"),
    [
        (True, False, "auto", "onnxruntime"),
        (True, False, "fp32", "openvino"),
        (True, True, "auto", "openvino"),
        (False, False, "auto", "openvino"),
    ],
)
def test_auto_takes_an_encoder_in_8_bits_before_openvino_in_32(
    bundle, openvino, monkeypatch, dot_products, amx, precision, name
):
    monkeypatch.setattr(registry, "has_int8_dot_products", lambda: dot_products)
    monkeypatch.setattr(registry, "has_amx", lambda: amx)
    bundle = replace(bundle, int8_graphs={ENCODER: bundle.graphs[ENCODER]})
    assert create_engine(bundle, EngineOptions(precision=precision)).name == name
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # not installed
    assert create_engine(bundle, EngineOptions(precision=precision)).name == "openvino"


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_auto_takes_onnxruntime_on_a_gpu_before_openvino(
    bundle, openvino, monkeypatch, caplog, device
):
    """But not where its CUDA cannot be used."""
    import onnxruntime

    on_gpu = type("OnGpu", (Chosen,), {"name": "onnxruntime", "device": device})
    offered = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: offered)
    monkeypatch.setattr("aopsam_ros.engines.onnxruntime.OnnxRuntimeEngine", on_gpu)
    monkeypatch.setattr(registry, "load_driver", lambda: None)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    engine = create_engine(bundle)
    (record,) = caplog.records
    if device == "cuda":
        assert (engine.name, record.levelname) == ("onnxruntime", "INFO")
        assert record.message.startswith("engine onnxruntime on cuda (auto; tensorrt: ")
    else:
        assert (engine.name, record.levelname) == ("openvino", "WARNING")  # a GPU stays idle
        assert "; onnxruntime: its CUDA cannot be used here)" in record.message


def test_a_damaged_bundle_is_not_loaded_with_another_engine(bundle, openvino, monkeypatch):
    monkeypatch.setattr(Chosen, "__init__", Mock(side_effect=BundleError("encoder.onnx: altered")))
    with pytest.raises(BundleError, match="altered"):
        create_engine(bundle)
