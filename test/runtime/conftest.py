"""A GPU and a TensorRT of any version, in the host's memory."""

import pytest
from gpu import Gpu
from stand_in_tensorrt import VERSIONS

from aopsam_ros.runtime.bundle import load_bundle


@pytest.fixture(scope="session")
def bundle(tiny_folder):
    return load_bundle(tiny_folder)


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
