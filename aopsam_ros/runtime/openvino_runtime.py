"""Running a bundle with OpenVINO on a CPU.

Where the processor computes in bf16 (AMX, AVX-512 BF16), so does the engine, once that has been
found to give nearly the same answers; coordinates of prompts stay in 32 bits. Elsewhere it computes
in 32 bits, about as fast as ONNX Runtime.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.errors import EngineError, InferenceError, VerificationError
from aopsam_ros.runtime.bundle import DECODER, ENCODER, PREDICTOR, Bundle
from aopsam_ros.runtime.decoded import DecodedOnHost
from aopsam_ros.runtime.fitting import Sides
from aopsam_ros.runtime.openvino_engine.api import BF16, FP32, OpenVino, reason
from aopsam_ros.runtime.openvino_engine.graph import Graph, read_model
from aopsam_ros.runtime.signatures import Shape, check_output, signatures
from aopsam_ros.runtime.verification import answers, check, sample_inputs

_LOGGER = logging.getLogger(__name__)


class OpenVinoRuntime:
    """Three graphs that share an embedding, which stays where the encoder wrote it.

    Not safe for use by several threads at once.
    """

    name = "openvino"
    device = "cpu"
    largest_batch: int | None = None
    concurrent = False

    def __init__(
        self,
        bundle: Bundle,
        threads: int = 0,
        precision: str = "auto",
        openvino: OpenVino | None = None,
    ) -> None:
        """Load and check the bundle's graphs.

        Args:
            bundle: from `load_bundle`.
            threads: of one graph's operators; 0 leaves the choice to OpenVINO.
            precision: "fp32"; "auto" and "fp16" take 16 bits (bf16) where the processor has them
                and results stay right.
            openvino: the package and its core; imported if None.

        Raises:
            EngineError: if OpenVINO is missing, too old, cannot be used or cannot load a graph.
            BundleError: if a graph is missing, altered, or of another signature.
        """
        self._openvino = OpenVino(threads) if openvino is None else openvino
        self._signatures = signatures(bundle)
        self._graphs: dict[str, Graph] = {}
        models = {
            name: read_model(self._openvino, graph.read(), str(graph.path), self._signatures[name])
            for name, graph in bundle.graphs.items()
        }
        self._graphs = self._compiled(models, FP32)
        self._precision = FP32
        if precision != FP32 and self._openvino.has_bf16:
            self._try_bf16(bundle, models)

    @property
    def precision(self) -> str:
        """Return "fp32" or "bf16"."""
        return self._precision

    @property
    def has_predictor(self) -> bool:
        """Return whether the bundle came with a prompt predictor."""
        return PREDICTOR in self._graphs

    def encode(
        self,
        image: NDArray[np.float32],
        valid: Sides | None = None,  # noqa: ARG002  (it needs the whole square)
    ) -> Any:  # noqa: ANN401  (the engine's own type)
        """Encode an image `[1, 3, S, S]`; the embedding returned is opaque.

        Raises:
            InferenceError: if the graph fails.
        """
        return self._run(ENCODER, {"image": image})[0]

    def embedding(self, handle: Any) -> NDArray[np.float32]:  # noqa: ANN401
        """Return a copy of an embedding, float32 `[1, C, S', S']`, checked.

        Raises:
            InferenceError: if it has another shape or values that are not finite.
        """
        wanted = self._signatures[ENCODER].outputs["embedding"]
        return check_output("embedding", handle.data.copy(), wanted)

    def predict(self, image: NDArray[np.float32], handle: Any) -> NDArray[np.float32]:  # noqa: ANN401
        """Return the prompt confidence map, float32 `[P, P]`.

        Raises:
            InferenceError: if the graph fails or its output is not what it must be.
        """
        (confidence,) = self._answer(PREDICTOR, {"image": image, "embedding": handle})
        return np.asarray(confidence[0, 0])

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
        if np.shape(coords)[:2] != np.shape(labels):  # else OpenVINO would read past an end
            raise _failure(
                DECODER, f"{np.shape(coords)} coordinates do not fit to {np.shape(labels)} labels"
            )
        inputs = {"embedding": handle, "point_coords": coords, "point_labels": labels}
        logits, iou = self._answer(DECODER, inputs, len(coords))
        if not len(logits) == len(iou) == len(coords):
            raise InferenceError(f"{DECODER} gave {len(logits)} results for {len(coords)} prompts")
        return DecodedOnHost(logits, iou)

    def close(self) -> None:
        """Free the graphs; the object cannot be used afterwards."""
        self._graphs.clear()

    def _compiled(self, models: dict[str, Any], precision: str) -> dict[str, Graph]:
        try:
            return {n: Graph(self._openvino, model, precision) for n, model in models.items()}
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot compile the model: {reason(error)}") from error

    def _try_bf16(self, bundle: Bundle, models: dict[str, Any]) -> None:
        """Switch to 16 bits, and back to 32 if the answers differ."""
        samples = sample_inputs(bundle)
        full = self._graphs
        try:
            wanted = answers(self, samples)
            self._graphs = self._compiled(models, BF16)
            check(f"{bundle.name} in {BF16}", answers(self, samples), wanted)
            self._precision = BF16
        except (EngineError, InferenceError, VerificationError) as error:
            self._graphs = full
            _LOGGER.warning("openvino computes in fp32, because bf16 was found wrong: %s", error)

    def _answer(
        self, graph: str, inputs: dict[str, Any], prompts: int = 1
    ) -> list[NDArray[np.float32]]:
        """Run a graph and check every output."""
        tensors = self._run(graph, inputs, prompts)
        wanted = self._signatures[graph].outputs
        return [
            check_output(name, tensor.data, shape)
            for tensor, (name, shape) in zip(tensors, wanted.items(), strict=True)
        ]

    def _run(self, graph: str, inputs: dict[str, Any], prompts: int = 1) -> list[Any]:
        """Run a graph; arrays are wrapped, embeddings are handed on."""
        compiled = self._graphs.get(graph)
        if compiled is None:
            raise _failure(graph, "it is not loaded, or closed")
        outputs = {n: _sized(s, prompts) for n, s in self._signatures[graph].outputs.items()}
        try:
            return compiled.run(inputs, outputs)
        except Exception as error:
            raise _failure(graph, reason(error)) from error


def _sized(shape: Shape, prompts: int) -> tuple[int, ...]:
    return tuple(prompts if size is None else size for size in shape)


def _failure(graph: str, why: str) -> InferenceError:
    return InferenceError(f"{graph} failed in OpenVINO: {why}")
