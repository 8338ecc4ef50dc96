"""Running a bundle with ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from aopsam_ros.errors import BundleError, InferenceError
from aopsam_ros.runtime.bundle import DECODER, ENCODER, PREDICTOR, Bundle
from aopsam_ros.runtime.decoded import DecodedOnHost
from aopsam_ros.runtime.signatures import Signature, check_graph, check_output, signatures

# The newest first; the CPU is always there.
_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
_ERRORS_ONLY = 3
# Its fused kernel took five times as long as an addition and a norm, on maps of 4096 cells.
_SLOW_FUSIONS = ["SkipLayerNormFusion"]


class OnnxRuntime:
    """Three sessions that share an embedding, which stays where the encoder left it.

    Not safe for use by several threads at once.
    """

    name = "onnxruntime"
    precision = "fp32"
    largest_batch: int | None = None

    def __init__(self, bundle: Bundle, threads: int = 0) -> None:
        """Load and check the bundle's graphs.

        Args:
            bundle: from `load_bundle`.
            threads: of one graph's operators; 0 leaves the choice to ONNX Runtime.

        Raises:
            BundleError: if a graph is missing, altered, not ONNX, or of another signature.
        """
        self._signatures = signatures(bundle)
        self._sessions = {
            graph: _load(bundle, graph, threads, self._signatures[graph])
            for graph in (ENCODER, PREDICTOR, DECODER)
            if graph in bundle.graphs
        }
        provider = self._sessions[ENCODER].get_providers()[0]
        self._device = "cuda" if provider.startswith("CUDA") else "cpu"

    @property
    def device(self) -> str:
        """Return "cpu" or "cuda"."""
        return self._device

    @property
    def has_predictor(self) -> bool:
        """Return whether the bundle came with a prompt predictor."""
        return PREDICTOR in self._sessions

    def encode(self, image: NDArray[np.float32]) -> Any:  # noqa: ANN401  (the engine's own type)
        """Encode an image `[1, 3, S, S]`; the embedding returned is opaque and on the device.

        Raises:
            InferenceError: if the graph fails.
        """
        try:
            binding = self._sessions[ENCODER].io_binding()
            binding.bind_cpu_input("image", image)
            binding.bind_output("embedding", self._device)
            self._sessions[ENCODER].run_with_iobinding(binding)
            return binding.get_outputs()[0]
        except Exception as error:
            raise _failure(ENCODER, error) from error

    def embedding(self, handle: Any) -> NDArray[np.float32]:  # noqa: ANN401
        """Return an embedding on the host, float32 `[1, C, S', S']`, checked.

        Raises:
            InferenceError: if it has another shape or values that are not finite.
        """
        wanted = self._signatures[ENCODER].outputs["embedding"]
        return check_output("embedding", handle.numpy(), wanted)

    def predict(self, image: NDArray[np.float32], handle: Any) -> NDArray[np.float32]:  # noqa: ANN401
        """Return the prompt confidence map, float32 `[P, P]`.

        Raises:
            InferenceError: if the graph fails or its output is not what it must be.
        """
        outputs = self._run(PREDICTOR, {"image": image}, handle)
        return np.asarray(outputs["confidence_map"][0, 0])

    def decode(
        self,
        handle: Any,  # noqa: ANN401
        coords: NDArray[np.float32],
        labels: NDArray[np.float32],
    ) -> DecodedOnHost:
        """Decode N prompts of K points.

        Args:
            handle: from `encode`.
            coords: `[N, K, 2]` in pixels of the padded square.
            labels: `[N, K]`.

        Raises:
            InferenceError: if the graph fails or its output is not what it must be.
        """
        outputs = self._run(DECODER, {"point_coords": coords, "point_labels": labels}, handle)
        logits, iou = outputs["low_res_logits"], outputs["predicted_iou"]
        if not len(logits) == len(iou) == len(coords):
            raise InferenceError(f"{DECODER} gave {len(logits)} results for {len(coords)} prompts")
        return DecodedOnHost(logits, iou)

    def close(self) -> None:
        """Free the graphs; the object cannot be used afterwards."""
        self._sessions.clear()

    def _run(
        self,
        graph: str,
        inputs: dict[str, NDArray[np.float32]],
        handle: Any,  # noqa: ANN401
    ) -> dict[str, NDArray[np.float32]]:
        """Run a graph on an embedding and check every output."""
        wanted = self._signatures[graph].outputs
        # Named, so that they outlive the run: a binding points at their memory.
        arrays_in = {n: np.ascontiguousarray(a, np.float32) for n, a in inputs.items()}
        try:
            binding = self._sessions[graph].io_binding()
            for name, array in arrays_in.items():
                binding.bind_cpu_input(name, array)
            binding.bind_ortvalue_input("embedding", handle)
            for name in wanted:
                binding.bind_output(name, "cpu")
            self._sessions[graph].run_with_iobinding(binding)
            arrays = [value.numpy() for value in binding.get_outputs()]
        except Exception as error:
            raise _failure(graph, error) from error
        found = dict(zip(wanted, arrays, strict=True))
        return {name: check_output(name, found[name], shape) for name, shape in wanted.items()}


def _load(bundle: Bundle, graph: str, threads: int, signature: Signature) -> ort.InferenceSession:
    """Make one session from the checked bytes of a graph."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _ERRORS_ONLY
    offered = ort.get_available_providers()
    providers = [provider for provider in _PROVIDERS if provider in offered]
    file = str(bundle.graphs[graph].path)
    content = bundle.graphs[graph].read()
    try:
        session = ort.InferenceSession(
            content, options, providers=providers, disabled_optimizers=_SLOW_FUSIONS
        )
    except Exception as error:
        raise BundleError(f"{file}: ONNX Runtime cannot load it: {_line(error)}") from error
    check_graph(file, "input", signature.inputs, _described(session.get_inputs()))
    check_graph(file, "output", signature.outputs, _described(session.get_outputs()))
    return session


def _described(nodes: Any) -> dict[str, tuple[str, list[object]]]:  # noqa: ANN401
    return {node.name: (node.type, list(node.shape)) for node in nodes}


def _failure(graph: str, error: Exception) -> InferenceError:
    return InferenceError(f"{graph} failed in ONNX Runtime: {_line(error)}")


def _line(error: Exception) -> str:
    """Return the first line of an engine's message; they are long."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
