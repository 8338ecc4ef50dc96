"""Bundles to run; a GPU and a TensorRT of any version, in the host's memory."""

import pytest

from aopsam_ros.bundle.loading import load_bundle
from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.engines.onnxruntime import OnnxRuntimeEngine
from aopsam_ros.engines.openvino.api import FP32, OpenVino
from aopsam_ros.engines.openvino.engine import OpenVinoEngine
from support.gpu import Gpu
from support.stand_in.tensorrt import VERSIONS

ON_CPU = [OnnxRuntimeEngine, pytest.param(OpenVinoEngine, marks=pytest.mark.needs("openvino"))]


@pytest.fixture(scope="session", params=ON_CPU, ids=["onnxruntime", "openvino"])
def engine(request):
    """Each of the engines for a processor: what loads a bundle."""
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
    from aopsam_ros.models.export import export_bundle, mobile_sam_parts
    from aopsam_ros.models.mobile_sam.model import MobileSam
    from aopsam_ros.models.prompt_predictor import PromptPredictor
    from support.authors import mobile_sam_cases as cases

    folder = tmp_path_factory.mktemp("bundles") / "mobile_sam"
    torch.manual_seed(0)
    model = cases.load_random_weights(MobileSam(64))
    facts = {"name": "random", "version": "0", "licence": "-", "defaults": {}, "provenance": {}}
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


@pytest.fixture(params=[*ON_CPU, "tensorrt"], ids=["onnxruntime", "openvino", "tensorrt"])
def start(request):
    """Load a bundle into each of the engines, in 32 bits."""
    if request.param != "tensorrt":
        yield lambda bundle: request.param(bundle, EngineOptions(threads=1, precision="fp32"))
        return
    gpu, engines = request.getfixturevalue("modern_gpu"), []
    yield lambda bundle: engines.append(gpu.start(bundle, "fp32")) or engines[-1]
    for engine in engines:
        engine.close()


# For the tests of OpenVINO.


@pytest.fixture(scope="module")
def openvino():
    return OpenVino(threads=1)


@pytest.fixture(scope="module")
def with_bf16():
    """OpenVINO on a processor with bf16, or one that can imitate it."""
    openvino = OpenVino(threads=1)
    module = openvino.module
    taken = module.op.Parameter(module.Type.f32, module.Shape([8, 8]))
    model = module.Model([module.opset8.matmul(taken, taken, False, False)], [taken], "product")
    compiled = openvino.compile(model, "bf16")
    if compiled.get_property("INFERENCE_PRECISION_HINT") != module.Type.bf16:
        pytest.skip("this processor can neither compute in bf16 nor imitate it")
    openvino.has_bf16 = openvino.gains_by_bf16 = True
    return openvino


@pytest.fixture(scope="module")
def bundles(request):
    """Find a bundle by its name; only what is asked for is made."""
    fixtures = {"tiny": "bundle", "nano": "nano_bundle", "mobile_sam": "mobile_sam_bundle"}
    return lambda name: request.getfixturevalue(fixtures[name])


@pytest.fixture(scope="module")
def engines(openvino, bundles):
    known = {}

    def start(name):
        if name not in known:
            bundle = bundles(name)
            pair = (
                OpenVinoEngine(bundle, EngineOptions(threads=1, precision=FP32), openvino=openvino),
                OnnxRuntimeEngine(bundle, EngineOptions(threads=1, precision=FP32)),
            )
            known[name] = pair
        return known[name]

    return start
