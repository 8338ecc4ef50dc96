"""Does a freshly built plan compute what the graph says? Checked before it is ever used."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.bundle.loading import ENCODER, Bundle
from aopsam_ros.engines.tensorrt.api import TensorRt
from aopsam_ros.engines.tensorrt.cuda import Device
from aopsam_ros.engines.tensorrt.graph import GraphRunner, Memory
from aopsam_ros.engines.verification import sample_inputs, verify
from aopsam_ros.errors import EngineError

_Arrays = Mapping[str, NDArray[np.float32]]


class Verifier:
    """Compares plans of a bundle with ONNX Runtime on the CPU, in 32 bits."""

    def __init__(self, bundle: Bundle, trt: TensorRt, device: Device) -> None:
        """Prepare; the reference is computed when it is first needed."""
        self._bundle, self._trt, self._device = bundle, trt, device

    def verify(self, graph: str, plan: bytes) -> dict[str, float]:
        """Run a plan on the sample inputs, in memory of its own.

        Returns:
            The least cosine of each output with the reference's.

        Raises:
            VerificationError: if an output is not finite or too far from the reference's.
            EngineError: if the plan cannot be run, or there is no ONNX Runtime.
            InferenceError: if it fails.
        """
        samples = sample_inputs(self._bundle)[graph]
        reference = functools.partial(_reference, self._bundle, graph)
        memory = Memory(self._device)
        try:
            runner = GraphRunner(self._trt, self._bundle, graph, plan, memory)
            try:
                return verify(
                    f"TensorRT {self._trt.version}",
                    [{"embedding": self._embedding, **sample} for sample in samples],
                    functools.partial(_run, runner, memory),
                    reference,
                )
            finally:
                runner.close()
        finally:
            memory.close()

    @functools.cached_property
    def _embedding(self) -> NDArray[np.float32]:
        (sample,) = sample_inputs(self._bundle)[ENCODER]
        return _reference(self._bundle, ENCODER, sample)["embedding"]


def _run(runner: GraphRunner, memory: Memory, sample: _Arrays) -> _Arrays:
    signature = runner.signature
    runner.run({name: sample[name] for name in signature.inputs})
    count = len(sample.get("point_coords", [0]))
    return {
        name: memory.read(name, tuple(count if size is None else size for size in shape))
        for name, shape in signature.outputs.items()
    }


def _reference(bundle: Bundle, graph: str, sample: _Arrays) -> dict[str, NDArray[np.float32]]:
    """Run a graph of the bundle on the CPU."""
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError(
            f"new engines are verified with onnxruntime, which is missing ({error})"
        ) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(
        bundle.graphs[graph].read(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    inputs = {node.name: sample[node.name] for node in session.get_inputs()}
    return dict(zip(names, session.run(names, inputs), strict=True))
