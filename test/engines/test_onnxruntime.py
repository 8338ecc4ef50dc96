"""ONNX Runtime, on a CPU and on a GPU, for which its CPU provider stands in."""

import numpy as np
import pytest

from aopsam_ros.bundle.loading import load_bundle
from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.engines.onnxruntime import OnnxRuntimeEngine
from aopsam_ros.engines.verification import answers, compare, sample_inputs
from aopsam_ros.errors import BundleError
from support import tiny_bundle
from support.gpu import add_mixed_graphs
from support.tiny_bundle import SIZE, with_last, write_tiny_bundle
from support.tiny_split import write_split_bundle


def start(bundle, precision="auto"):
    options = EngineOptions(precision=precision, threads=1)
    return OnnxRuntimeEngine(bundle, options, gpu_provider="CPUExecutionProvider")


def scaled_encoder(factor):
    return with_last(tiny_bundle.encoder(), "embedding", "Mul", {"factor": np.float32(factor)})


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A bundle with graphs in mixed precision, and a decoder in parts, which are for a CPU.

    What stands in for the GPU computes more exactly than in 16 bits: the encoder is made to differ.
    """
    folder = write_split_bundle(tmp_path_factory.mktemp("bundles") / "mixed")
    return load_bundle(add_mixed_graphs(folder, {"encoder": scaled_encoder(1.001)}))


@pytest.mark.parametrize("precision", ["auto", "fp16"])
def test_mixed_graphs_are_taken(mixed, caplog, precision):
    caplog.set_level("WARNING")
    engine = start(mixed, precision)
    assert (engine.device, engine.precision, engine.concurrent) == ("cuda", "fp16", False)
    assert not caplog.records
    samples = sample_inputs(mixed)
    found, wanted = answers(engine, samples), answers(start(mixed, "fp32"), samples)
    compare("fp16", found, wanted, 0.999)
    np.testing.assert_allclose(found["embedding"], 1.001 * wanted["embedding"], rtol=1e-4)


def test_fp32_is_fp32(mixed):
    engine, samples = start(mixed, "fp32"), sample_inputs(mixed)
    assert engine.precision == "fp32"
    wanted = answers(OnnxRuntimeEngine(mixed), samples)
    for match in compare("fp32", answers(engine, samples), wanted, 0.999999):
        assert match.difference < 1e-3


@pytest.mark.parametrize(
    ("factor", "reason"), [(np.inf, "holds values that are not finite"), (-1.0, "differs from the")]
)
def test_graphs_that_are_wrong_in_16_bits_stay_in_32(tmp_path, caplog, factor, reason):
    folder = write_tiny_bundle(tmp_path / "b")
    engine = start(load_bundle(add_mixed_graphs(folder, {"encoder": scaled_encoder(factor)})))
    assert engine.precision == "fp16 but encoder"
    assert f"encoder computes in 32 bits: encoder in fp16: embedding {reason}" in caplog.text
    embedding = engine.embedding(engine.encode(np.ones((1, 3, SIZE, SIZE), np.float32)))
    np.testing.assert_allclose(embedding, 1.0, rtol=1e-6)


@pytest.mark.parametrize(("precision", "warns"), [("auto", False), ("fp16", True)])
def test_16_bits_that_a_bundle_or_a_cpu_lacks_are_logged_where_asked_for(
    bundle, mixed, caplog, precision, warns
):
    assert start(bundle, precision).precision == "fp32"
    assert ("`aopsam export --mixed` writes them" in caplog.text) == warns
    assert OnnxRuntimeEngine(mixed, EngineOptions(precision=precision)).precision == "fp32"
    assert ("onnxruntime computes in fp32 on a CPU" in caplog.text) == warns


def test_an_altered_mixed_graph_is_refused(tmp_path):
    folder = add_mixed_graphs(write_tiny_bundle(tmp_path / "b"))
    with (folder / "encoder.mixed.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BundleError, match=r"encoder\.mixed\.onnx: sha256"):
        start(load_bundle(folder))
