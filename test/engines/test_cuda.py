"""Memory, copies and a stream through the driver's interface."""

import numpy as np
import pytest

from aopsam_ros.engines.tensorrt.cuda import Device, Memory
from aopsam_ros.errors import CudaError
from support.stand_in.cuda import StandInDriver


@pytest.fixture
def driver():
    driver = StandInDriver()
    yield driver
    driver.assert_clean()


@pytest.fixture
def device(driver):
    device = Device(driver)
    device.make_current()
    yield device
    device.close()
    device.close()


@pytest.fixture
def memory(device):
    memory = Memory(device)
    memory.reserve("x", (4, 5))
    yield memory
    memory.close()
    memory.close()


def test_what_goes_in_comes_out(memory):
    array = np.arange(20, dtype=np.float32).reshape(4, 5)
    memory.copy_in("x", array)
    array[:] = -1  # read before the call returned
    found = np.zeros((4, 5), np.float32)
    memory.copy_out("x", found)
    assert not found.any()  # nobody has waited yet
    memory.synchronize()
    np.testing.assert_array_equal(found.ravel(), np.arange(20))
    part = np.zeros(3, np.float32)
    memory.copy_out("x", part, offset=7)
    memory.synchronize()
    assert part.tolist() == [7, 8, 9]


def test_nothing_is_copied_beyond_a_buffer(memory):
    with pytest.raises(CudaError, match="84 bytes do not fit"):
        memory.copy_in("x", np.zeros(21, np.float32))
    with pytest.raises(CudaError, match="not in a buffer"):
        memory.copy_out("x", np.zeros(3, np.float32), offset=18)


@pytest.mark.parametrize("function", ["cuInit", "cuDeviceGet", "cuDevicePrimaryCtxRetain"])
def test_no_usable_gpu_is_a_clear_error(function):
    driver = StandInDriver()
    driver.fails[function] = 100
    with pytest.raises(CudaError, match=f"{function} failed"):
        Device(driver)
