"""One loaded plan and its context."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.bundle.loading import Bundle
from aopsam_ros.bundle.signatures import Shape, signature_of
from aopsam_ros.engines.tensorrt.api import TensorRt
from aopsam_ros.engines.tensorrt.cuda import Memory
from aopsam_ros.errors import EngineError, InferenceError

LARGEST_BATCH = 32  # prompts in one call; 34 MB of logits of four masks at 256 x 256
MOST_POINTS = 8  # of one prompt


def sized(shape: Shape, prompts: int = LARGEST_BATCH, points: int = MOST_POINTS) -> tuple[int, ...]:
    """Return the shape of a decoder's dynamic tensor for prompts of so many points."""
    sizes = prompts, points
    return tuple(sizes[axis] if size is None else size for axis, size in enumerate(shape))


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
        self.signature = signature_of(bundle, graph, graph, *trt.describe(self._engine))
        self._context: Any = self._engine.create_execution_context()
        if self._context is None:
            raise EngineError(f"{graph}: no room for its work: {trt.last_error}")
        for name, shape in {**self.signature.inputs, **self.signature.outputs}.items():
            self._context.set_tensor_address(name, memory.reserve(name, sized(shape)))

    def run(self, inputs: Mapping[str, NDArray[np.float32]]) -> dict[str, tuple[int, ...]]:
        """Copy inputs in and start the graph; inputs not given stay as they are.

        Returns:
            The shapes of the inputs given and of the outputs, by name.

        Raises:
            InferenceError: if TensorRT refuses a shape, or to run.
            CudaError: if a copy fails.
        """
        for name, array in inputs.items():
            self._memory.copy_in(name, array)
            if not self._context.set_input_shape(name, array.shape):
                raise InferenceError(
                    f"{self._graph} takes no {name} of shape {list(array.shape)}: "
                    f"{self._trt.last_error}"
                )
        if not self._context.execute_async_v3(self._memory.stream):
            raise InferenceError(f"{self._graph} failed in TensorRT: {self._trt.last_error}")
        count = max(map(len, inputs.values()), default=1)  # of prompts, where any are taken
        written = {name: sized(shape, count) for name, shape in self.signature.outputs.items()}
        return {**{name: array.shape for name, array in inputs.items()}, **written}

    def close(self) -> None:
        """Free the context and the engine."""
        self._context = None
        self._engine = None
