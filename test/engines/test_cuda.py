"""Memory, copies and a stream through the driver's interface."""

import threading

import numpy as np
import pytest

from aopsam_ros.engines.tensorrt.cuda import Buffer, Device, Stream
from aopsam_ros.errors import CudaError
from support.stand_in.cuda import ILLEGAL_ADDRESS, TOTAL, StandInDriver


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
def stream(device):
    stream = Stream(device)
    yield stream
    stream.close()
    stream.close()


@pytest.fixture
def buffer(device):
    buffer = Buffer(device, (4, 5))
    yield buffer
    buffer.close()
    buffer.close()


def test_what_goes_in_comes_out(stream, buffer):
    array = np.arange(20, dtype=np.float32).reshape(4, 5)
    stream.copy_in(array, buffer)
    array[:] = -1  # read before the call returned
    found = np.zeros((4, 5), np.float32)
    stream.copy_out(buffer, found)
    assert not found.any()  # nobody has waited yet
    stream.synchronize()
    np.testing.assert_array_equal(found.ravel(), np.arange(20))
    part = np.zeros(3, np.float32)
    stream.copy_out(buffer, part, offset=7)
    stream.synchronize()
    assert part.tolist() == [7, 8, 9]


def test_nothing_is_copied_beyond_a_buffer(stream, buffer):
    with pytest.raises(CudaError, match="84 bytes do not fit"):
        stream.copy_in(np.zeros(21, np.float32), buffer)
    with pytest.raises(CudaError, match="not in a buffer"):
        stream.copy_out(buffer, np.zeros(3, np.float32), offset=18)


def test_too_little_memory_is_a_clear_error(driver, device):
    driver.room = 100
    with pytest.raises(CudaError, match="cuMemAlloc_v2 failed: out of memory"):
        Buffer(device, (TOTAL,))


def test_a_failing_kernel_shows_when_somebody_waits(driver, stream):
    driver.fails["cuStreamSynchronize"] = ILLEGAL_ADDRESS
    with pytest.raises(CudaError, match="cuStreamSynchronize failed: another error"):
        stream.synchronize()
    driver.fails.clear()


def test_a_thread_makes_the_context_current(device):
    outcome = []

    def work():
        try:
            Buffer(device, (1,))
        except CudaError as error:
            outcome.append(str(error))
        device.make_current()
        Buffer(device, (1,)).close()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert outcome == ["cuMemAlloc_v2 failed: no context"]


@pytest.mark.parametrize("function", ["cuInit", "cuDeviceGet", "cuDevicePrimaryCtxRetain"])
def test_no_usable_gpu_is_a_clear_error(function):
    driver = StandInDriver()
    driver.fails[function] = 100
    with pytest.raises(CudaError, match=f"{function} failed"):
        Device(driver)
