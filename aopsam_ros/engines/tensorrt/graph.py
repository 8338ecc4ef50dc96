"""One loaded plan, its context, and its place in the GPU's memory."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.bundle.loading import Bundle
from aopsam_ros.bundle.signatures import Shape, Shapes, signature_of
from aopsam_ros.engines.tensorrt.api import TensorRt
from aopsam_ros.engines.tensorrt.cuda import Buffer, Device, Stream
from aopsam_ros.errors import EngineError, InferenceError

LARGEST_BATCH = 32  # prompts in one call; 25 MB of logits at 256 x 256
MOST_POINTS = 8  # of one prompt


def sized(shape: Shape, prompts: int = LARGEST_BATCH, points: int = MOST_POINTS) -> tuple[int, ...]:
    """Return the shape of a decoder's dynamic tensor for prompts of so many points."""
    sizes = prompts, points
    return tuple(sizes[axis] if size is None else size for axis, size in enumerate(shape))


class Memory:
    """A stream, and one buffer for each tensor name: graphs share `image` and `embedding`.

    Everything is allocated once. All raise CudaError if the GPU fails or has too little memory.
    """

    def __init__(self, device: Device) -> None:
        """Begin with no buffer."""
        self.device = device
        device.make_current()
        self.stream = Stream(device)
        self.buffers: dict[str, Buffer] = {}

    def reserve(self, shapes: Shapes) -> None:
        """Allocate what is not there yet, large enough for every shape."""
        for name, shape in shapes.items():
            if name not in self.buffers:
                self.buffers[name] = Buffer(self.device, sized(shape))

    def read(self, name: str, shape: Shape) -> NDArray[np.float32]:
        """Copy an array to the host and wait for it, and for what ran before."""
        array = np.empty(sized(shape), np.float32)
        self.stream.copy_out(self.buffers[name], array)
        self.stream.synchronize()
        return array

    def close(self) -> None:
        """Free everything."""
        for buffer in self.buffers.values():
            buffer.close()
        self.buffers.clear()
        self.stream.close()


class GraphRunner:
    """Runs a graph on buffers of a `Memory`."""

    def __init__(
        self, trt: TensorRt, bundle: Bundle, graph: str, plan: bytes, memory: Memory
    ) -> None:
        """Load a plan and check it.

        Raises:
            EngineError: if the plan is not for this TensorRT or GPU.
            BundleError: if it is not the graph it should be.
            CudaError: if there is not enough memory.
        """
        self._graph, self._trt, self._memory = graph, trt, memory
        self._engine = trt.load(plan)
        found = trt.describe(self._engine, "input"), trt.describe(self._engine, "output")
        self.signature = signature_of(bundle, graph, graph, *found)
        tensors = {**self.signature.inputs, **self.signature.outputs}
        memory.reserve(tensors)
        self._context: Any = self._engine.create_execution_context()
        if self._context is None:
            raise EngineError(f"{graph}: no room for its work: {trt.last_error}")
        for name in tensors:
            self._context.set_tensor_address(name, memory.buffers[name].address)

    def run(self, inputs: Mapping[str, NDArray[np.float32]]) -> None:
        """Copy inputs in and start the graph; inputs not given stay as they are.

        Raises:
            InferenceError: if TensorRT refuses a shape, or to run.
            CudaError: if a copy fails.
        """
        for name, array in inputs.items():
            self._memory.stream.copy_in(array, self._memory.buffers[name])
            if not self._context.set_input_shape(name, array.shape):
                raise InferenceError(
                    f"{self._graph} takes no {name} of shape {list(array.shape)}: "
                    f"{self._trt.last_error}"
                )
        if not self._context.execute_async_v3(self._memory.stream.handle):
            raise InferenceError(f"{self._graph} failed in TensorRT: {self._trt.last_error}")

    def close(self) -> None:
        """Free the context and the engine."""
        self._context = None
        self._engine = None
