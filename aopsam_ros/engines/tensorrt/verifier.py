"""Does a freshly built engine compute what the graph says? Asked before it is ever used."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.bundle.loading import DECODER, ENCODER, Bundle
from aopsam_ros.bundle.signatures import signatures
from aopsam_ros.engines.tensorrt.api import TensorRt
from aopsam_ros.engines.tensorrt.cuda import Device
from aopsam_ros.engines.tensorrt.graph import GraphRunner, Memory
from aopsam_ros.engines.verification import check, sample_inputs
from aopsam_ros.errors import EngineError

_LOGGER = logging.getLogger(__name__)
_Arrays = Mapping[str, NDArray[np.float32]]


class Verifier:
    """Compares engines of a bundle with ONNX Runtime on the CPU, in 32 bits."""

    def __init__(self, bundle: Bundle, trt: TensorRt, device: Device) -> None:
        """Prepare; the reference is computed when it is first needed."""
        self._bundle, self._trt, self._device = bundle, trt, device
        self._signatures = signatures(bundle)

    def verify(self, graph: str, plan: bytes) -> dict[str, float]:
        """Run a plan on the sample inputs, in memory of its own.

        Returns:
            The least cosine of each output with the reference's.

        Raises:
            VerificationError: if an output is not finite or too far from the reference's.
            EngineError: if the plan cannot be run, or there is no ONNX Runtime.
            InferenceError: if it fails.
        """
        samples = sample_inputs(self._bundle, embedding=self._embedding)[graph]
        cosines: dict[str, float] = {}
        for found, sample in zip(self._run(graph, plan, samples), samples, strict=True):
            wanted = _reference(self._bundle, graph, sample)
            for match in check(f"TensorRT {self._trt.version}", found, wanted):
                cosines[match.output] = min(match.cosine, cosines.get(match.output, 1.0))
        shown = ", ".join(f"{name} {cosine:.5f}" for name, cosine in cosines.items())
        _LOGGER.info("%s: verified, cosine with the reference: %s", graph, shown)
        return cosines

    @functools.cached_property
    def _embedding(self) -> NDArray[np.float32]:
        (sample,) = sample_inputs(self._bundle)[ENCODER]
        return _reference(self._bundle, ENCODER, sample)["embedding"]

    def _run(self, graph: str, plan: bytes, samples: list[Any]) -> list[_Arrays]:
        memory = Memory(self._device)
        try:
            engine = GraphRunner(self._trt, graph, plan, self._signatures[graph], memory)
            try:
                return [self._outputs(engine, graph, memory, sample) for sample in samples]
            finally:
                engine.close()
        finally:
            memory.close()

    def _outputs(self, engine: GraphRunner, graph: str, memory: Memory, sample: _Arrays) -> _Arrays:
        engine.run(sample)
        count = len(sample["point_coords"]) if graph == DECODER else 1
        return {
            name: memory.read(name, tuple(count if size is None else size for size in shape))
            for name, shape in self._signatures[graph].outputs.items()
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
    return dict(zip(names, session.run(names, dict(sample)), strict=True))
