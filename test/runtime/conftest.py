"""Bundles to run; a GPU and a TensorRT of any version, in the host's memory."""

import importlib.util

import pytest
from gpu import Gpu
from stand_in_tensorrt import VERSIONS

from aopsam_ros.runtime.bundle import load_bundle
from aopsam_ros.runtime.onnx_runtime import OnnxRuntime
from aopsam_ros.runtime.openvino_runtime import OpenVinoRuntime

NO_OPENVINO = importlib.util.find_spec("openvino") is None
ON_CPU = [
    OnnxRuntime,
    pytest.param(OpenVinoRuntime, marks=pytest.mark.skipif(NO_OPENVINO, reason="needs openvino")),
]


@pytest.fixture(scope="session", params=ON_CPU, ids=["onnxruntime", "openvino"])
def engine(request):
    """Each of the engines for a processor: what makes a runtime of a bundle."""
    return request.param


@pytest.fixture(scope="session")
def bundle(tiny_folder):
    return load_bundle(tiny_folder)


@pytest.fixture(scope="session")
def nano_bundle(root):
    return load_bundle(root / "bundles" / "nano")


@pytest.fixture(scope="session")
def mobile_sam_bundle(tmp_path_factory):
    """MobileSAM of random weights for images of 64 pixels."""
    torch = pytest.importorskip("torch")
    import mobile_sam_cases as cases

    from aopsam_ros.models.export import export_bundle, mobile_sam_parts
    from aopsam_ros.models.mobile_sam import MobileSam
    from aopsam_ros.models.prompt_predictor import PromptPredictor

    folder = tmp_path_factory.mktemp("bundles") / "mobile_sam"
    torch.manual_seed(0)
    model = cases.load_random_weights(MobileSam(64))
    facts = {"name": "random", "version": "0", "licence": "Apache-2.0"}
    facts |= {"provenance": {}, "defaults": {}}
    export_bundle(mobile_sam_parts(model, PromptPredictor(256)), folder, facts)
    return load_bundle(folder)


@pytest.fixture(params=VERSIONS)
def gpu(request, tmp_path):
    """A machine with a GPU; whatever a test does, nothing is left on it."""
    gpu = Gpu(request.param, tmp_path / "engines")
    yield gpu
    gpu.driver.assert_clean()


@pytest.fixture
def modern_gpu(tmp_path):
    """A machine whose TensorRT's version does not matter to the test."""
    gpu = Gpu("10.3.0", tmp_path / "engines")
    yield gpu
    gpu.driver.assert_clean()
