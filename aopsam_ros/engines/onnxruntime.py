"""Running a bundle with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from aopsam_ros.bundle.loading import DECODER, ENCODER, PREDICTOR, Bundle, Graph
from aopsam_ros.bundle.signatures import (
    Shape,
    Signature,
    check_graph,
    check_open_sides,
    check_output,
    signatures,
)
from aopsam_ros.bundle.split_signature import check_split
from aopsam_ros.engines.base import DEFAULTS, Decoded, DecodedOnHost, EngineOptions
from aopsam_ros.engines.fitting import Sides, fit, put_back
from aopsam_ros.engines.onnx_arena import share_arena, shrink_arena
from aopsam_ros.engines.precision import INT8
from aopsam_ros.engines.split_decoder import Arrays, EncodedImage, SplitDecoder
from aopsam_ros.errors import BundleError, EngineError, InferenceError

# The newest first; the CPU is always there.
_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
_ERRORS_ONLY = 3
# Its fused kernel took five times as long as an addition and a norm, on maps of 4096 cells.
_SLOW_FUSIONS = ["SkipLayerNormFusion"]


class OnnxRuntimeEngine:
    """Sessions that share an embedding, which stays where the encoder left it.

    On a CPU, the decoder runs in three parts where the bundle has it so, and padding is left out
    where the graphs can do without: they see an image's own sides, rounded up to a multiple of the
    bundle's `size_divisibility`.
    """

    name = "onnxruntime"
    largest_batch: int | None = None

    def __init__(self, bundle: Bundle, options: EngineOptions = DEFAULTS) -> None:
        """Load and check the bundle's graphs.

        Args:
            bundle: from `load_bundle`.
            options: precision "int8" takes the encoder in 8 bits; all else is 32 bits.

        Raises:
            BundleError: if a graph is missing, altered, not ONNX, or of another signature.
            EngineError: if 8 bits are asked for on a GPU.
        """
        threads, precision = options.threads, options.precision
        self._bundle = bundle
        self._signatures = signatures(bundle)
        self.precision = "fp32, encoder int8" if precision == INT8 else "fp32"
        graph = _int8_encoder(bundle) if precision == INT8 else bundle.graphs[ENCODER]
        encoder = _load(graph, threads, self._signatures[ENCODER])
        self._device = "cuda" if encoder.get_providers()[0].startswith("CUDA") else "cpu"
        if precision == INT8 and self._device != "cpu":
            raise EngineError(f"precision '{INT8}' is for a CPU; this onnxruntime uses the GPU")
        self._sessions = {ENCODER: encoder}
        self._split: SplitDecoder | None = None
        self._multiple = 0  # of what an image's sides are: see `fit`
        if self._device == "cpu" and bundle.split_graphs:
            self._load_split(bundle, threads)
        whole = (PREDICTOR,) if self._split else (PREDICTOR, DECODER)
        self._sessions |= {
            name: _load(bundle.graphs[name], threads, self._signatures[name])
            for name in whole
            if name in bundle.graphs
        }
        if self._multiple:
            self._check_that_sides_are_open()

    def _load_split(self, bundle: Bundle, threads: int) -> None:
        parts = {name: _load(graph, threads) for name, graph in bundle.split_graphs.items()}
        inputs = {name: _described(part.get_inputs()) for name, part in parts.items()}
        outputs = {name: _described(part.get_outputs()) for name, part in parts.items()}
        self._split = SplitDecoder(self._run_part, check_split(bundle, inputs, outputs))
        self._sessions |= parts
        self._multiple = bundle.size_divisibility

    def _check_that_sides_are_open(self) -> None:
        graphs = {**self._bundle.graphs, **self._bundle.split_graphs}
        for name, session in self._sessions.items():
            inputs = _described(session.get_inputs())
            check_open_sides(str(graphs[name].path), self._multiple, inputs)

    @property
    def device(self) -> str:
        """Return "cpu" or "cuda"."""
        return self._device

    @property
    def concurrent(self) -> bool:
        """Return whether several threads may use it; sessions take that, and nothing is kept."""
        return self._device == "cpu"

    @property
    def has_predictor(self) -> bool:
        """Return whether the bundle came with a prompt predictor."""
        return PREDICTOR in self._sessions

    def encode(self, image: NDArray[np.float32], valid: Sides | None = None) -> Any:  # noqa: ANN401
        """Encode an image `[1, 3, S, S]`; the embedding returned is opaque and on the device.

        Args:
            image: padded.
            valid: rows and columns that show the image; what lies beyond may be left out.

        Raises:
            InferenceError: if the graph fails.
        """
        fitted = fit(valid, self._bundle.image_size, self._multiple)
        seen = fitted.crop(image)
        try:
            binding = self._sessions[ENCODER].io_binding()
            binding.bind_cpu_input("image", seen)
            binding.bind_output("embedding", self._device)
            self._sessions[ENCODER].run_with_iobinding(binding)
            return EncodedImage(binding.get_outputs()[0], fitted)
        except Exception as error:
            raise _failure(ENCODER, error) from error

    def embedding(self, handle: Any) -> NDArray[np.float32]:  # noqa: ANN401
        """Return an embedding on the host, float32 `[1, C, S', S']`, checked.

        Raises:
            InferenceError: if it has another shape or values that are not finite.
        """
        _, channels, side, _ = self._bundle.embedding_shape
        wanted = (1, channels, *handle.fitted.of(side))
        found = check_output("embedding", handle.embedding.numpy(), wanted)
        return put_back(found, side)

    def predict(self, image: NDArray[np.float32], handle: Any) -> NDArray[np.float32]:  # noqa: ANN401
        """Return the prompt confidence map, float32 `[P, P]`.

        Raises:
            InferenceError: if the graph fails or its output is not what it must be.
        """
        side = self._bundle.confidence_map_size
        wanted = {"confidence_map": (1, 1, *handle.fitted.of(side))}
        outputs = self._run(PREDICTOR, {"image": handle.fitted.crop(image)}, handle, wanted)
        return put_back(outputs["confidence_map"][0, 0], side)

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
        if self._split is not None:
            if handle.shared is None:
                handle.shared = self._split.share(handle.embedding.numpy(), handle.fitted)
            return self._split.decode(handle.shared, coords, labels)
        prompts = {"point_coords": coords, "point_labels": labels}
        outputs = self._run(DECODER, prompts, handle, self._signatures[DECODER].outputs)
        logits, iou = outputs["low_res_logits"], outputs["predicted_iou"]
        if not len(logits) == len(iou) == len(coords):
            raise InferenceError(f"{DECODER} gave {len(logits)} results for {len(coords)} prompts")
        return DecodedOnHost(logits, iou)

    def close(self) -> None:
        """Free the graphs; the object cannot be used afterwards."""
        self._sessions.clear()
        if self._device == "cpu":
            shrink_arena()

    def _run_part(self, graph: str, inputs: Arrays) -> Arrays:
        """Run a part of the decoder, whose inputs and outputs are on the host."""
        arrays = {n: np.ascontiguousarray(a, np.float32) for n, a in inputs.items()}
        try:
            session = self._sessions[graph]
            names = [output.name for output in session.get_outputs()]
            return dict(zip(names, session.run(names, arrays), strict=True))
        except Exception as error:
            raise _failure(graph, error) from error

    def _run(
        self,
        graph: str,
        inputs: dict[str, NDArray[np.float32]],
        handle: Any,  # noqa: ANN401
        wanted: Mapping[str, Shape],
    ) -> dict[str, NDArray[np.float32]]:
        """Run a graph on an embedding and check every output."""
        # Named, so that they outlive the run: a binding points at their memory.
        arrays_in = {n: np.ascontiguousarray(a, np.float32) for n, a in inputs.items()}
        try:
            binding = self._sessions[graph].io_binding()
            for name, array in arrays_in.items():
                binding.bind_cpu_input(name, array)
            binding.bind_ortvalue_input("embedding", handle.embedding)
            for name in wanted:
                binding.bind_output(name, "cpu")
            self._sessions[graph].run_with_iobinding(binding)
            arrays = [value.numpy() for value in binding.get_outputs()]
        except Exception as error:
            raise _failure(graph, error) from error
        found = dict(zip(wanted, arrays, strict=True))
        return {name: check_output(name, found[name], shape) for name, shape in wanted.items()}


def _int8_encoder(bundle: Bundle) -> Graph:
    if ENCODER not in bundle.int8_graphs:
        raise BundleError(
            f"{bundle.folder}: has no encoder in {INT8}; `aopsam quantize` makes a bundle with one"
        )
    return bundle.int8_graphs[ENCODER]


def _load(graph: Graph, threads: int, signature: Signature | None = None) -> ort.InferenceSession:
    """Make one session from the checked bytes of a graph, and check it against its signature."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    # Each session has threads of its own. Those that spin after their graph, waiting for more, keep
    # a core from the next graph's: on two cores whole frames took up to twice as long.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Room planned ahead for all of a graph's results stays the session's own: a third more memory
    # than the arena needs for them, and no faster.
    options.enable_mem_pattern = False
    options.log_severity_level = _ERRORS_ONLY
    offered = ort.get_available_providers()
    providers = [provider for provider in _PROVIDERS if provider in offered]
    if "CUDAExecutionProvider" not in providers:
        share_arena(options)
    file, content = str(graph.path), graph.read()
    try:
        session = ort.InferenceSession(
            content, options, providers=providers, disabled_optimizers=_SLOW_FUSIONS
        )
    except Exception as error:
        raise BundleError(f"{file}: ONNX Runtime cannot load it: {_line(error)}") from error
    if signature is not None:
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
