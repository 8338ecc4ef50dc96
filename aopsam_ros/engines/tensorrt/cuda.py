"""The few things an engine needs of a GPU, through the driver's own C interface.

The driver's library has one name on every JetPack and every desktop, comes with the GPU, and works
beside any CUDA toolkit: memory and a stream do not need a framework of gigabytes. Every call raises
CudaError if there is no GPU, too little memory, or the GPU is in an error state.
"""

import ctypes
import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.errors import CudaError

LIBRARY = "libcuda.so.1"
_NON_BLOCKING = 1  # a stream that does not wait for the default stream
_CAPABILITY = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, ..._MINOR
_NAME_LENGTH = 256

_LOGGER = logging.getLogger(__name__)


def load_driver() -> Any:  # noqa: ANN401  (a ctypes library)
    """Return the driver's library.

    Raises:
        CudaError: if there is none: no NVIDIA GPU, or no driver.
    """
    try:
        return ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise CudaError(f"no NVIDIA driver ({error})") from error


class Device:
    """The first GPU and its primary context, which TensorRT and PyTorch use as well.

    A context belongs to a thread: whoever calls anything here calls `make_current` before.
    """

    def __init__(self, driver: Any = None) -> None:  # noqa: ANN401
        """Open the GPU through what `load_driver` returns; it is loaded if None."""
        self._driver = load_driver() if driver is None else driver
        self._call("cuInit", 0)
        self._device = ctypes.c_int()
        self._call("cuDeviceGet", ctypes.byref(self._device), 0)
        self._context = ctypes.c_void_p()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._device)

    @property
    def name(self) -> str:
        """Name of the GPU, such as "Orin"."""
        text = ctypes.create_string_buffer(_NAME_LENGTH)
        self._call("cuDeviceGetName", text, _NAME_LENGTH, self._device)
        return text.value.decode(errors="replace")

    @property
    def compute_capability(self) -> str:
        """Generation of the GPU, such as "8.7"."""
        numbers = []
        for attribute in _CAPABILITY:
            value = ctypes.c_int()
            self._call("cuDeviceGetAttribute", ctypes.byref(value), attribute, self._device)
            numbers.append(str(value.value))
        return ".".join(numbers)

    @property
    def driver_version(self) -> str:
        """The newest CUDA that the driver knows, such as "12.6"."""
        version = ctypes.c_int()
        self._call("cuDriverGetVersion", ctypes.byref(version))
        return f"{version.value // 1000}.{version.value % 1000 // 10}"

    def memory_used(self) -> int:
        """Return the bytes of GPU memory in use, by anybody."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return total.value - free.value

    def make_current(self) -> None:
        """Let the calling thread use this GPU."""
        self._call("cuCtxSetCurrent", self._context)

    def close(self) -> None:
        """Let go of the GPU; memory must have been closed before."""
        if self._context:
            self._free("cuDevicePrimaryCtxRelease_v2", self._device)
            self._context = ctypes.c_void_p()

    def _call(self, function: str, *arguments: Any) -> None:  # noqa: ANN401
        status = getattr(self._driver, function)(*arguments)
        if status:
            raise CudaError(f"{function} failed: {self._describe(status)}")

    def _free(self, function: str, *arguments: Any) -> None:  # noqa: ANN401
        """Give something back; a GPU that has failed refuses even that, and no more can be done."""
        try:
            self._call(function, *arguments)
        except CudaError as error:
            _LOGGER.warning("%s", error)

    def _describe(self, status: int) -> str:
        text = ctypes.c_char_p()
        self._driver.cuGetErrorString(status, ctypes.byref(text))
        return text.value.decode(errors="replace") if text.value else f"error {status}"


class Memory:
    """A stream, and one buffer of float32 for each tensor name: graphs share `image` and such.

    What is put on the stream is done in order, copies included.
    """

    def __init__(self, device: Device) -> None:
        """Begin with no buffer."""
        self._device = device
        self._buffers: dict[str, tuple[ctypes.c_uint64, int]] = {}  # address and size, bytes
        self._stream = ctypes.c_void_p()
        device.make_current()
        device._call("cuStreamCreate", ctypes.byref(self._stream), _NON_BLOCKING)

    @property
    def stream(self) -> int:
        """The stream as TensorRT takes it."""
        return self._stream.value or 0

    def reserve(self, name: str, shape: Sequence[int]) -> int:
        """Allocate room for an array where its name has none yet; return its address."""
        if name not in self._buffers:
            address, size = ctypes.c_uint64(), 4 * math.prod(shape)
            self._device._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
            self._buffers[name] = address, size
        return self._buffers[name][0].value

    def copy_in(self, name: str, array: NDArray[np.float32]) -> None:
        """Copy a contiguous array to the start of a buffer that is large enough.

        The driver reads ordinary memory before it returns, so the array may change afterwards.
        """
        address, size = self._buffers[name]
        if array.nbytes > size:
            raise CudaError(f"{array.nbytes} bytes do not fit into a buffer of {size}")
        self._device._call(
            "cuMemcpyHtoDAsync_v2",
            address,
            ctypes.c_void_p(array.ctypes.data),
            ctypes.c_size_t(array.nbytes),
            self._stream,
        )

    def copy_out(self, name: str, array: NDArray[np.float32], offset: int = 0) -> None:
        """Copy into a contiguous array from `offset` values on; `synchronize` before reading it."""
        address, size = self._buffers[name]
        if 4 * offset + array.nbytes > size:
            raise CudaError(f"value {offset} and what follows is not in a buffer of {size} bytes")
        self._device._call(
            "cuMemcpyDtoHAsync_v2",
            ctypes.c_void_p(array.ctypes.data),
            ctypes.c_uint64(address.value + 4 * offset),
            ctypes.c_size_t(array.nbytes),
            self._stream,
        )

    def read(self, name: str, shape: Sequence[int]) -> NDArray[np.float32]:
        """Copy an array to the host and wait for it, and for what ran before."""
        array = np.empty(shape, np.float32)
        self.copy_out(name, array)
        self.synchronize()
        return array

    def synchronize(self) -> None:
        """Wait until everything is done; what failed of it is raised here."""
        self._device._call("cuStreamSynchronize", self._stream)

    def close(self) -> None:
        """Free everything; harmless when repeated."""
        for address, _ in self._buffers.values():
            self._device._free("cuMemFree_v2", address)
        self._buffers.clear()
        if self._stream:
            self._device._free("cuStreamDestroy_v2", self._stream)
            self._stream = ctypes.c_void_p()
