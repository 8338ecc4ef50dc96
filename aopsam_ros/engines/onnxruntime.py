"""Running a bundle with ONNX Runtime, on an NVIDIA GPU through CUDA or on a CPU."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from aopsam_ros.bundle.loading import DECODER, ENCODER, PREDICTOR, Bundle, Graph
from aopsam_ros.bundle.signatures import Described, check_open_sides, signature_of
from aopsam_ros.bundle.split_signature import check_split
from aopsam_ros.engines.base import DEFAULTS, FP16, FP32, INT8, EngineOptions, half_precision
from aopsam_ros.engines.graph_engine import GraphEngine
from aopsam_ros.engines.split_decoder import Arrays, SplitDecoder
from aopsam_ros.engines.verification import sample_inputs, verify
from aopsam_ros.errors import BundleError, EngineError, InferenceError, VerificationError

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
_ERRORS_ONLY = 3
# Its fused kernel took five times as long as an addition and a norm, on maps of 4096 cells.
_SLOW_FUSIONS = ["SkipLayerNormFusion"]

_LOGGER = logging.getLogger(__name__)


class OnnxRuntimeEngine(GraphEngine):
    """Sessions that share an embedding, which stays where the encoder left it.

    On a GPU, graphs compute in 16 bits where the bundle has them in mixed precision and their
    results stay right. The decoder's parts and smaller areas than the square are for the CPU.
    """

    name = "onnxruntime"

    def __init__(
        self, bundle: Bundle, options: EngineOptions = DEFAULTS, *, gpu_provider: str = CUDA
    ) -> None:
        """Load and check the bundle's graphs.

        Args:
            bundle: from `load_bundle`.
            options: precision "int8" takes the encoder in 8 bits, on a CPU; "auto" and "fp16" take
                16 bits, on a GPU; all else is 32 bits.
            gpu_provider: ONNX Runtime's name for what runs graphs on the GPU.

        Raises:
            BundleError: if a graph is missing, altered, not ONNX, or of another signature.
            EngineError: if 8 bits are asked for on a GPU.
        """
        super().__init__(bundle)
        self._threads = options.threads
        self._sessions: dict[str, ort.InferenceSession] = {}
        self._full: list[str] = []  # graphs in 32 bits on a GPU
        self._encoder = bundle.graphs[ENCODER]
        if options.precision == INT8:
            self._encoder = _int8_encoder(bundle)
        offered = ort.get_available_providers()
        wanted = dict.fromkeys((gpu_provider, CPU))
        self._providers = [name for name in wanted if name in offered]
        self._load(ENCODER)
        self._is_on_gpu = self._sessions[ENCODER].get_providers()[0] == gpu_provider
        if not self._is_on_gpu and self._providers != [CPU]:  # CUDA is installed, but not usable
            self._providers = [CPU]
            self._load(ENCODER)
        self._load_rest()
        self.precision = FP32
        if options.precision == INT8:
            if self._is_on_gpu:
                raise EngineError(f"precision '{INT8}' is for a CPU; this onnxruntime uses the GPU")
            self.precision = f"{FP32}, encoder {INT8}"
        elif self._is_on_gpu and options.precision != FP32:
            self._take_half(options.precision)
        elif options.precision == FP16:
            _LOGGER.warning("onnxruntime computes in %s on a CPU: %s is for GPUs", FP32, FP16)

    @property
    def device(self) -> str:
        """Return "cpu" or "cuda"."""
        return "cuda" if self._is_on_gpu else "cpu"

    @property
    def concurrent(self) -> bool:
        """Return whether several threads may use it; sessions take that, and nothing is kept."""
        return not self._is_on_gpu

    def close(self) -> None:
        """Free the graphs; the object cannot be used afterwards."""
        self._sessions.clear()

    def _load(self, graph: str) -> None:
        listed = self._encoder if graph == ENCODER else self._bundle.graphs[graph]
        self._sessions[graph] = session = self._open(listed)
        described = _inputs_of(session), _outputs_of(session)
        self._signatures[graph] = signature_of(self._bundle, graph, str(listed.path), *described)

    def _load_rest(self) -> None:
        """Load all but the encoder; on a CPU the decoder in parts where the bundle has it so."""
        bundle = self._bundle
        is_split = not self._is_on_gpu and bool(bundle.split_graphs)
        if is_split:
            parts = {name: self._open(graph) for name, graph in bundle.split_graphs.items()}
            inputs = {name: _inputs_of(part) for name, part in parts.items()}
            outputs = {name: _outputs_of(part) for name, part in parts.items()}
            self._split = SplitDecoder(self._run_part, check_split(bundle, inputs, outputs))
            self._sessions |= parts
            self._multiple = bundle.size_divisibility
        for name in (PREDICTOR,) if is_split else (PREDICTOR, DECODER):
            if name in bundle.graphs:
                self._load(name)
        if self._multiple:
            files = {**bundle.graphs, **bundle.split_graphs}
            for name, session in self._sessions.items():
                check_open_sides(str(files[name].path), self._multiple, _inputs_of(session))

    def _open(self, graph: Graph) -> ort.InferenceSession:
        """Make a session of the checked bytes of a graph."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        # Each session has threads of its own. Those that spin after their graph, waiting for more,
        # keep a core from the next graph's: on two cores whole frames took up to twice as long.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Room planned ahead for all of a graph's results stays the session's own: a third more
        # memory than the arena needs for them, and no faster.
        options.enable_mem_pattern = False
        options.log_severity_level = _ERRORS_ONLY
        if self._providers == [CPU]:
            _make_shared_arena()
            options.add_session_config_entry("session.use_env_allocators", "1")
        content = graph.read()
        try:
            return ort.InferenceSession(
                content, options, providers=self._providers, disabled_optimizers=_SLOW_FUSIONS
            )
        except Exception as error:
            raise BundleError(
                f"{graph.path}: ONNX Runtime cannot load it: {_line(error)}"
            ) from error

    def _take_half(self, asked_for: str) -> None:
        """Replace graphs by those in mixed precision, as far as their results stay right."""
        mixed = self._bundle.mixed_graphs
        if not mixed and asked_for == FP16:
            _LOGGER.warning(
                "model '%s' has no mixed-precision graphs (`aopsam export --mixed` writes them): "
                "using 32 bits",
                self._bundle.name,
            )
        samples = sample_inputs(self._bundle)
        embedding = self.embedding(self.encode(samples[ENCODER][0]["image"]))
        for name, full in list(self._sessions.items()):
            if name in mixed:
                half = self._open(mixed[name])
                try:
                    given = [{"embedding": embedding, **sample} for sample in samples[name]]
                    verify(f"{name} in {FP16}", given, _runner(name, half), _runner(name, full))
                    self._sessions[name] = half
                    continue
                except (InferenceError, VerificationError) as error:
                    _LOGGER.warning("%s computes in 32 bits: %s", name, error)
            self._full.append(name)
        self.precision = half_precision(self._sessions, self._full)

    def _run(self, graph: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        # Named, so that arrays outlive the run: a binding points at their memory.
        given = {
            name: np.ascontiguousarray(value, np.float32) if _is_on_host(value) else value
            for name, value in inputs.items()
        }
        try:
            session = self._sessions[graph]
            binding = session.io_binding()
            for name, value in given.items():
                bind = binding.bind_cpu_input if _is_on_host(value) else binding.bind_ortvalue_input
                bind(name, value)
            names = [output.name for output in session.get_outputs()]
            for name in names:
                binding.bind_output(name, "cuda" if self._providers[0] == CUDA else "cpu")
            session.run_with_iobinding(binding)
            return dict(zip(names, binding.get_outputs(), strict=True))
        except Exception as error:
            raise _failure(graph, error) from error

    def _to_host(self, value: Any) -> NDArray[np.float32]:  # noqa: ANN401
        return np.asarray(value.numpy())


def _runner(graph: str, session: ort.InferenceSession) -> Callable[[Arrays], Arrays]:
    """Return a function that runs a session on a sample."""
    names = [output.name for output in session.get_outputs()]
    taken = _inputs_of(session)

    def run(sample: Arrays) -> Arrays:
        try:
            found = session.run(names, {n: a for n, a in sample.items() if n in taken})
        except Exception as error:
            raise _failure(graph, error) from error
        return dict(zip(names, found, strict=True))

    return run


@functools.cache
def _make_shared_arena() -> None:
    """Make the arena of all sessions on the CPU, once in a process.

    The graphs of a frame run one after another: what the encoder is done with is enough for the
    decoder. An arena for each session takes 19 MB more for `nano`, 29 MB for MobileSAM.
    """
    memory = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg(0, -1, -1, -1))


def _int8_encoder(bundle: Bundle) -> Graph:
    if ENCODER not in bundle.int8_graphs:
        raise BundleError(
            f"{bundle.folder}: has no encoder in {INT8}; `aopsam quantize` makes a bundle with one"
        )
    return bundle.int8_graphs[ENCODER]


def _inputs_of(session: ort.InferenceSession) -> Described:
    return {node.name: (node.type, list(node.shape)) for node in session.get_inputs()}


def _outputs_of(session: ort.InferenceSession) -> Described:
    return {node.name: (node.type, list(node.shape)) for node in session.get_outputs()}


def _is_on_host(value: Any) -> bool:  # noqa: ANN401
    return not isinstance(value, ort.OrtValue)


def _failure(graph: str, error: Exception) -> InferenceError:
    return InferenceError(f"{graph} failed in ONNX Runtime: {_line(error)}")


def _line(error: Exception) -> str:
    """Return the first line of an engine's message; they are long."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
