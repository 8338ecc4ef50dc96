"""Running a bundle with ONNX Runtime, on an NVIDIA GPU through CUDA or on a CPU."""

import functools
import logging
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from aopsam_ros.bundle.loading import ENCODER, MASK_PART, PROMPT_PART, Bundle, Graph
from aopsam_ros.bundle.signatures import Described
from aopsam_ros.engines.base import (
    AUTO,
    DEFAULTS,
    FP16,
    FP32,
    INT8,
    EngineOptions,
    half_precision,
)
from aopsam_ros.engines.engine import Engine
from aopsam_ros.engines.processor import available_cores, has_int8_dot_products
from aopsam_ros.engines.split_decoder import ParallelCalls
from aopsam_ros.engines.verification import sample_inputs, verify
from aopsam_ros.errors import (
    BundleError,
    EngineError,
    InferenceError,
    VerificationError,
    first_line,
)

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
_ERRORS_ONLY = 3
_MOST_CALLS = 4  # at once: each takes memory for its results
# Its fused kernel took five times as long as an addition and a norm, on maps of 4096 cells.
_SLOW_FUSIONS = ["SkipLayerNormFusion"]

_LOGGER = logging.getLogger(__name__)


class OnnxRuntimeEngine(Engine):
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
            options: precision "int8" takes the bundle's graphs in 8 bits, on a CPU; so does "auto"
                where there are any and the processor gains by it; "auto" and "fp16" take 16 bits on
                a GPU; all else is 32 bits.
            gpu_provider: ONNX Runtime's name for what runs graphs on the GPU.

        Raises:
            BundleError: if a graph is missing, altered, not ONNX, or of another signature.
            EngineError: if 8 bits are asked for on a GPU.
        """
        super().__init__(bundle)
        self._threads, precision = options.threads, options.precision
        self._providers, is_on_gpu = [CPU], False
        if gpu_provider in ort.get_available_providers():
            self._providers = list(dict.fromkeys((gpu_provider, CPU)))
            encoder = self._open(bundle.graphs[ENCODER], self._threads)
            is_on_gpu = encoder.get_providers()[0] == gpu_provider
            if is_on_gpu:
                self._graphs[ENCODER] = encoder
            else:  # CUDA is installed, but not usable
                self._providers = [CPU]
        takes_int8 = precision == INT8
        if precision == AUTO and not is_on_gpu:
            takes_int8 = bool(bundle.int8_graphs) and has_int8_dot_products()
        if takes_int8 and not bundle.int8_graphs:
            raise BundleError(
                f"{bundle.folder}: has no encoder in {INT8}; `aopsam quantize` makes a bundle "
                "with one"
            )
        if takes_int8 and is_on_gpu:
            raise EngineError(f"precision '{INT8}' is for a CPU; this onnxruntime uses the GPU")
        in_8_bits = bundle.int8_graphs if takes_int8 else {}
        self._files |= in_8_bits
        if not is_on_gpu:
            self._calls = ParallelCalls(min(self._threads or available_cores(), _MOST_CALLS))
        self._load(self._needed(in_parts=not is_on_gpu))
        self.device = "cuda" if is_on_gpu else "cpu"
        self.concurrent = not is_on_gpu  # sessions take several threads, and nothing is kept
        names = " and ".join(name.removeprefix("prompt_") for name in in_8_bits)
        self.precision = f"{FP32}, {names} {INT8}" if names else FP32
        if is_on_gpu and precision != FP32:
            self._take_half(precision)
        elif precision == FP16:
            _LOGGER.warning("onnxruntime computes in %s on a CPU: %s is for GPUs", FP32, FP16)

    def _load(self, names: Iterable[str]) -> None:
        loaded = {
            n: self._graphs.get(n) or self._open(self._files[n], self._threads_of(n)) for n in names
        }
        inputs = {name: _described(session.get_inputs()) for name, session in loaded.items()}
        outputs = {name: _described(session.get_outputs()) for name, session in loaded.items()}
        self._check(inputs, outputs)
        self._graphs |= loaded

    def _threads_of(self, graph: str) -> int:
        """Return how many threads an operator of a graph takes; 0 leaves it to ONNX Runtime."""
        in_calls = graph in (PROMPT_PART, MASK_PART) and self._calls.threads > 1
        return 1 if in_calls else self._threads

    def _open(self, graph: Graph, threads: int) -> ort.InferenceSession:
        """Make a session of the checked bytes of a graph, whose operators take so many threads."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
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
                f"{graph.path}: ONNX Runtime cannot load it: {first_line(error)[:300]}"
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
        in_full = []
        for name, full in list(self._graphs.items()):
            if name in mixed:
                half = self._open(mixed[name], self._threads)
                taken = self._signatures[name].inputs
                given = [
                    {n: a for n, a in {"embedding": embedding, **sample}.items() if n in taken}
                    for sample in samples[name]
                ]
                try:
                    wanted = [self.run_graph(name, sample) for sample in given]
                    self._graphs[name] = half
                    found = (self.run_graph(name, sample) for sample in given)
                    verify(f"{name} in {FP16}", found, wanted)
                    continue
                except (InferenceError, VerificationError) as error:
                    self._graphs[name] = full
                    _LOGGER.warning("%s computes in 32 bits: %s", name, error)
            in_full.append(name)
        self.precision = half_precision(self._graphs, in_full)

    def _run(self, graph: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        # Named, so that arrays outlive the run: a binding points at their memory.
        given = {
            name: value
            if isinstance(value, ort.OrtValue)
            else np.ascontiguousarray(value, np.float32)
            for name, value in inputs.items()
        }
        session = self._loaded(graph)
        try:
            names = [output.name for output in session.get_outputs()]
            if self.device == "cpu":  # a binding would take new memory for the outputs every time
                return dict(zip(names, session.run(names, given), strict=True))
            binding = session.io_binding()
            for name, value in given.items():
                on_device = isinstance(value, ort.OrtValue)
                (binding.bind_ortvalue_input if on_device else binding.bind_cpu_input)(name, value)
            for name in names:
                binding.bind_output(name, "cuda" if self._providers[0] == CUDA else "cpu")
            session.run_with_iobinding(binding)
            return dict(zip(names, binding.get_outputs(), strict=True))
        except Exception as error:
            reason = first_line(error)[:300]
            raise InferenceError(f"{graph} failed in ONNX Runtime: {reason}") from error

    def _to_host(self, value: Any) -> NDArray[np.float32]:  # noqa: ANN401
        return np.asarray(value.numpy() if isinstance(value, ort.OrtValue) else value)


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


def _described(values: Iterable[ort.NodeArg]) -> Described:
    """Describe a session's inputs or outputs."""
    return {value.name: (value.type, list(value.shape)) for value in values}
