"""Running a bundle with OpenVINO on a CPU.

Where the processor gains by bf16 (AMX), so does the engine, once that has been found to give nearly
the same answers; coordinates of prompts stay in 32 bits.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.bundle.loading import DECODER, ENCODER, PREDICTOR, Bundle
from aopsam_ros.bundle.signatures import Shape, check_output, signatures
from aopsam_ros.engines.base import DEFAULTS, Decoded, DecodedOnHost, EngineOptions
from aopsam_ros.engines.fitting import Fitted, Sides, fit, put_back
from aopsam_ros.engines.openvino.api import BF16, FP32, OpenVino, reason
from aopsam_ros.engines.openvino.graph import Graph, SizedGraph
from aopsam_ros.engines.openvino.loading import Loaded, load_graphs
from aopsam_ros.engines.split_decoder import Arrays, EncodedImage, SplitDecoder
from aopsam_ros.engines.verification import answers, check, sample_inputs
from aopsam_ros.errors import EngineError, InferenceError, VerificationError

_LOGGER = logging.getLogger(__name__)


class OpenVinoEngine:
    """Graphs that share an embedding, which stays where the encoder wrote it.

    The decoder runs in three parts and padding is left out where the bundle allows it, as in ONNX
    Runtime. Not safe for use by several threads at once.
    """

    name = "openvino"
    device = "cpu"
    largest_batch: int | None = None
    concurrent = False

    def __init__(
        self,
        bundle: Bundle,
        options: EngineOptions = DEFAULTS,
        *,
        openvino: OpenVino | None = None,
    ) -> None:
        """Load and check the bundle's graphs.

        Args:
            bundle: from `load_bundle`.
            options: precision "fp16" takes 16 bits (bf16) where the processor has them, "auto"
                where they are faster; both only where results stay right.
            openvino: the package and its core; imported if None.

        Raises:
            EngineError: if OpenVINO is missing, too old, cannot be used or cannot load a graph.
            BundleError: if a graph is missing, altered, or of another signature.
        """
        self._openvino = OpenVino(options.threads) if openvino is None else openvino
        self._bundle = bundle
        self._signatures = signatures(bundle)
        self._split: SplitDecoder | None = None
        full = load_graphs(self._openvino, bundle, FP32)
        self._take(full)
        self._precision = FP32
        if self._openvino.precision(options.precision) == BF16:
            self._try_bf16(full)

    @property
    def precision(self) -> str:
        """Return "fp32" or "bf16"."""
        return self._precision

    @property
    def has_predictor(self) -> bool:
        """Return whether the bundle came with a prompt predictor."""
        return PREDICTOR in self._graphs

    def encode(self, image: NDArray[np.float32], valid: Sides | None = None) -> Any:  # noqa: ANN401
        """Encode an image `[1, 3, S, S]`; the embedding returned is opaque.

        Args:
            image: padded.
            valid: rows and columns that show the image; what lies beyond may be left out. Graphs
                are compiled for the sizes that come, which takes half a second the first time.

        Raises:
            InferenceError: if the graph fails.
        """
        self._check_image(ENCODER, image)
        multiple = self._bundle.size_divisibility if self._split else 0
        fitted = fit(valid, self._bundle.image_size, multiple)
        self._prepare(fitted)
        outputs = {"embedding": self._embedding_shape(fitted)}
        (embedding,) = self._run(ENCODER, {"image": fitted.crop(image)}, outputs)
        return EncodedImage(embedding, fitted)

    def embedding(self, handle: Any) -> NDArray[np.float32]:  # noqa: ANN401
        """Return a copy of an embedding, float32 `[1, C, S', S']`, checked.

        Raises:
            InferenceError: if it has another shape or values that are not finite.
        """
        wanted = self._embedding_shape(handle.fitted)
        found = check_output("embedding", handle.embedding.data.copy(), wanted)
        return put_back(found, self._bundle.embedding_shape[-1])

    def predict(self, image: NDArray[np.float32], handle: Any) -> NDArray[np.float32]:  # noqa: ANN401
        """Return the prompt confidence map, float32 `[P, P]`.

        Raises:
            InferenceError: if the graph fails or its output is not what it must be.
        """
        self._check_image(PREDICTOR, image)
        side = self._bundle.confidence_map_size
        outputs = {"confidence_map": (1, 1, *handle.fitted.of(side))}
        inputs = {"image": handle.fitted.crop(image), "embedding": handle.embedding}
        (confidence,) = self._answer(PREDICTOR, inputs, outputs)
        return put_back(confidence[0, 0], side)

    def decode(
        self,
        handle: Any,  # noqa: ANN401
        coords: NDArray[np.float32],
        labels: NDArray[np.float32],
    ) -> Decoded:
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
        if self._split is not None:
            if handle.shared is None:
                handle.shared = self._split.share(handle.embedding.data, handle.fitted)
            return self._split.decode(handle.shared, coords, labels)
        inputs = {"embedding": handle.embedding, "point_coords": coords, "point_labels": labels}
        shapes = self._signatures[DECODER].outputs
        outputs = {name: _sized(shape, len(coords)) for name, shape in shapes.items()}
        logits, iou = self._answer(DECODER, inputs, outputs)
        if not len(logits) == len(iou) == len(coords):
            raise InferenceError(f"{DECODER} gave {len(logits)} results for {len(coords)} prompts")
        return DecodedOnHost(logits, iou)

    def close(self) -> None:
        """Free the graphs; the object cannot be used afterwards."""
        self._graphs.clear()

    def _take(self, loaded: Loaded) -> None:
        self._graphs = dict(loaded.graphs)
        if loaded.split is not None:
            self._split = SplitDecoder(self._run_part, loaded.split)

    def _try_bf16(self, full: Loaded) -> None:
        """Switch to 16 bits, and back to 32 if the answers differ."""
        samples = sample_inputs(self._bundle)
        try:
            wanted = answers(self, samples)
            self._take(load_graphs(self._openvino, self._bundle, BF16))
            check(f"{self._bundle.name} in {BF16}", answers(self, samples), wanted)
            self._precision = BF16
        except (EngineError, InferenceError, VerificationError) as error:
            self._take(full)
            _LOGGER.warning("openvino computes in fp32, because bf16 was found wrong: %s", error)

    def _check_image(self, graph: str, image: NDArray[np.float32]) -> None:
        """Refuse an image that is not the padded square, before a graph is compiled for it."""
        wanted = self._signatures[ENCODER].inputs["image"]
        if np.shape(image) != wanted:
            raise _failure(graph, f"{np.shape(image)} is incompatible with {wanted}")

    def _prepare(self, fitted: Fitted) -> None:
        """Compile whatever sees an image for its sizes: one frame pays for all."""
        image = 1, 3, fitted.rows, fitted.columns
        sizes = {"image": image, "embedding": self._embedding_shape(fitted)}
        for name, graph in self._graphs.items():
            if isinstance(graph, SizedGraph):
                with _failures_told(name):
                    graph.prepare(sizes)

    def _embedding_shape(self, fitted: Fitted) -> tuple[int, ...]:
        """Return the shape of the embedding of a part of the square."""
        _, channels, side, _ = self._bundle.embedding_shape
        return 1, channels, *fitted.of(side)

    def _answer(
        self, graph: str, inputs: dict[str, Any], outputs: dict[str, tuple[int, ...]]
    ) -> list[NDArray[np.float32]]:
        """Run a graph and check every output."""
        tensors = self._run(graph, inputs, outputs)
        return [
            check_output(name, tensor.data, shape)
            for tensor, (name, shape) in zip(tensors, outputs.items(), strict=True)
        ]

    def _run(
        self, graph: str, inputs: dict[str, Any], outputs: dict[str, tuple[int, ...]]
    ) -> list[Any]:
        """Run a graph; arrays are wrapped, embeddings are handed on."""
        compiled = self._loaded(graph)
        with _failures_told(graph):
            return compiled.run(inputs, outputs)

    def _run_part(self, graph: str, inputs: Arrays) -> Arrays:
        """Run a part of the decoder."""
        compiled = self._loaded(graph)
        with _failures_told(graph):
            return compiled.run_to_arrays(inputs)

    def _loaded(self, graph: str) -> Graph | SizedGraph:
        if graph not in self._graphs:
            raise _failure(graph, "it is not loaded, or closed")
        return self._graphs[graph]


def _sized(shape: Shape, prompts: int) -> tuple[int, ...]:
    return tuple(prompts if size is None else size for size in shape)


@contextmanager
def _failures_told(graph: str) -> Iterator[None]:
    """Turn whatever OpenVINO raises into one line that names the graph."""
    try:
        yield
    except Exception as error:
        raise _failure(graph, reason(error)) from error


def _failure(graph: str, why: str) -> InferenceError:
    return InferenceError(f"{graph} failed in OpenVINO: {why}")
