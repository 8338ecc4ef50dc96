"""Does a freshly built plan compute what the graph says? Checked before it is ever used."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.bundle.loading import ENCODER, Bundle
from aopsam_ros.engines.tensorrt.api import TensorRt
from aopsam_ros.engines.tensorrt.cuda import Device
from aopsam_ros.engines.tensorrt.graph import GraphRunner, Memory
from aopsam_ros.engines.verification import sample_inputs, verify
from aopsam_ros.errors import EngineError

_Arrays = Mapping[str, NDArray[np.float32]]


def verify_plan(
    bundle: Bundle, trt: TensorRt, device: Device, graph: str, plan: bytes
) -> dict[str, float]:
    """Compare a plan with ONNX Runtime on the CPU, in 32 bits, in memory of its own.

    Returns:
        The least cosine of each output with the reference's.

    Raises:
        VerificationError: if an output is not finite or too far from the reference's.
        EngineError: if the plan cannot be run, or there is no ONNX Runtime.
        InferenceError: if it fails.
    """

    def run(sample: _Arrays) -> _Arrays:
        runner.run({name: sample[name] for name in runner.signature.inputs})
        count = len(sample.get("point_coords", [0]))
        return {
            name: memory.read(name, tuple(count if size is None else size for size in shape))
            for name, shape in runner.signature.outputs.items()
        }

    samples = sample_inputs(bundle)
    embedding = _reference(bundle, ENCODER, samples[ENCODER][0])["embedding"]
    given = [{"embedding": embedding, **sample} for sample in samples[graph]]
    wanted = (_reference(bundle, graph, sample) for sample in given)
    with (
        closing(Memory(device)) as memory,
        closing(GraphRunner(trt, bundle, graph, plan, memory)) as runner,
    ):
        return verify(f"TensorRT {trt.version}", map(run, given), wanted)


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
