"""A CUDA driver in the host's memory: it takes what the real one takes, and is stricter.

What is put on a stream happens when somebody waits for it, not before. Every address must lie in a
live allocation, and a thread must have made the context current.
"""

import ctypes
import threading

import numpy as np

INVALID, NO_MEMORY, NO_CONTEXT, ILLEGAL_ADDRESS = 1, 2, 201, 700
NAMES = {INVALID: b"invalid argument", NO_MEMORY: b"out of memory", NO_CONTEXT: b"no context"}
TOTAL = 1 << 33


def _target(reference):
    return reference._obj  # what ctypes.byref points at


class StandInDriver:
    """Functions by the names of libcuda; each returns a status, 0 for success."""

    def __init__(self, name=b"Orin", capability=(8, 7), version=12060):
        self.name, self.capability, self.version = name, capability, version
        self.memory = {}  # address: array of bytes
        self.streams = {}  # handle: list of functions
        self.retained = 0
        self.room = TOTAL
        self.fails = {}  # function name: status
        self._threads = set()
        self._next = 0x7000_0000_0000
        self._lock = threading.Lock()

    def __getattribute__(self, name):
        found = object.__getattribute__(self, name)
        if name.startswith("cu") and name in self.fails:
            return lambda *_: self.fails[name]
        return found

    def _new(self):
        with self._lock:
            self._next += 0x1000_0000
            return self._next

    def _has_context(self):
        return threading.get_ident() in self._threads

    def place(self, address, size):
        """Return `size` bytes at an address; None if they are not in one allocation."""
        for start, content in self.memory.items():
            if start <= address and address + size <= start + len(content):
                return content[address - start : address - start + size]
        return None

    # Device and context

    def cuInit(self, flags):
        return INVALID if flags else 0

    def cuDeviceGet(self, device, ordinal):
        _target(device).value = 0
        return INVALID if ordinal else 0

    def cuDevicePrimaryCtxRetain(self, context, device):
        _target(context).value = 0xC0FFEE
        self.retained += 1
        return 0

    def cuDevicePrimaryCtxRelease_v2(self, device):
        self.retained -= 1
        return 0 if self.retained >= 0 else INVALID

    def cuCtxSetCurrent(self, context):
        self._threads.add(threading.get_ident())
        return 0 if context.value == 0xC0FFEE else INVALID

    def cuDeviceGetName(self, text, length, device):
        text.value = self.name[: length - 1]
        return 0

    def cuDeviceGetAttribute(self, value, attribute, device):
        _target(value).value = {75: self.capability[0], 76: self.capability[1]}[attribute]
        return 0

    def cuDriverGetVersion(self, version):
        _target(version).value = self.version
        return 0

    def cuGetErrorString(self, status, text):
        _target(text).value = NAMES.get(status, b"another error")
        return 0

    # Memory

    def cuMemGetInfo_v2(self, free, total):
        _target(total).value = TOTAL
        _target(free).value = TOTAL - sum(map(len, self.memory.values()))
        return 0

    def cuMemAlloc_v2(self, address, size):
        if not self._has_context():
            return NO_CONTEXT
        if size.value > self.room - sum(map(len, self.memory.values())):
            return NO_MEMORY
        _target(address).value = self._new()
        # Nothing is zero by itself.
        self.memory[_target(address).value] = np.full(size.value, 0xAB, np.uint8)
        return 0

    def cuMemFree_v2(self, address):
        return 0 if self.memory.pop(address.value, None) is not None else INVALID

    # Streams

    def cuStreamCreate(self, stream, flags):
        if not self._has_context():
            return NO_CONTEXT
        _target(stream).value = self._new()
        self.streams[_target(stream).value] = []
        return 0

    def cuStreamDestroy_v2(self, stream):
        return 0 if self.streams.pop(stream.value, None) is not None else INVALID

    def cuMemcpyHtoDAsync_v2(self, address, source, size, stream):
        target = self.place(address.value, size.value)
        if target is None or not self._has_context():
            return INVALID
        # Ordinary memory is read before the call returns.
        content = np.frombuffer(ctypes.string_at(source.value, size.value), np.uint8)
        return self.enqueue(stream.value, lambda: np.copyto(target, content))

    def cuMemcpyDtoHAsync_v2(self, target, address, size, stream):
        content = self.place(address.value, size.value)
        if content is None or not self._has_context():
            return INVALID
        where = target.value
        return self.enqueue(
            stream.value, lambda: ctypes.memmove(where, content.ctypes.data, size.value)
        )

    def enqueue(self, stream, work):
        """Put work on a stream; TensorRT's stand-in does so, too."""
        if stream not in self.streams:
            return INVALID
        self.streams[stream].append(work)
        return 0

    def cuStreamSynchronize(self, stream):
        if stream.value not in self.streams or not self._has_context():
            return INVALID
        work, self.streams[stream.value] = self.streams[stream.value], []
        for step in work:
            step()
        return 0

    def assert_clean(self):
        """Nothing was forgotten."""
        assert (self.memory, self.streams, self.retained) == ({}, {}, 0)
