"""From a bundle's graphs to plans that can be trusted: cached, or built and verified.

An engine in 16 bits may be wrong without a word. So each one is compared with a reference in 32
bits right after its build; what fails is built again in 32 bits, and that is remembered.
"""

import functools
import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager

from aopsam_ros.bundle.loading import ENCODER, Bundle
from aopsam_ros.bundle.signatures import Shapes, signatures
from aopsam_ros.engines.base import FP32, Arrays, OnProgress
from aopsam_ros.engines.engine_cache import EngineCache, EngineKey
from aopsam_ros.engines.tensorrt.api import WORKSPACE_BYTES, Precision, Range, TensorRt
from aopsam_ros.engines.tensorrt.cuda import Device, Memory
from aopsam_ros.engines.tensorrt.graph import LARGEST_BATCH, GraphRunner, sized
from aopsam_ros.engines.verification import sample_inputs, verify
from aopsam_ros.errors import EngineError, InferenceError, VerificationError

PERIOD_S = 1.0  # between two reports of progress
_POINTS = {"point": 1, "box": 2, "both": 3}  # of a prompt, in each form

_LOGGER = logging.getLogger(__name__)


class Plans:
    """The plans of one bundle on one GPU."""

    def __init__(
        self,
        bundle: Bundle,
        trt: TensorRt,
        device: Device,
        cache: EngineCache,
        precision: str,
        on_progress: OnProgress,
    ) -> None:
        """Prepare; `find` does the work."""
        self._bundle, self._trt, self._device = bundle, trt, device
        self._cache, self._on_progress = cache, on_progress
        self._signatures = signatures(bundle)
        asf = bundle.options("predictor").asf
        self._usual = min(asf.batch_size, LARGEST_BATCH), _POINTS[asf.prompt_form]
        self._precisions = self._wanted(precision)

    def find(self, graph: str) -> tuple[bytes, Precision]:
        """Return a plan, from the cache or built now, and how it computes.

        Raises:
            BundleError: if the graph is missing or altered.
            EngineError: if TensorRT cannot build it, or what it builds is wrong in 32 bits, too.
        """
        for precision in self._precisions:
            if precision is Precision.TYPED_HALF and graph not in self._bundle.mixed_graphs:
                continue
            plan = self._find(graph, precision)
            if plan is not None:
                return plan, precision
        raise EngineError(f"{graph}: TensorRT {self._trt.version} builds no usable engine of it")

    def _wanted(self, precision: str) -> list[Precision]:
        """Return the precisions to try, the best first."""
        if precision == FP32:
            return [Precision.FULL]
        half = self._trt.half(bool(self._bundle.mixed_graphs))
        if half is not None:
            return [half, Precision.FULL]
        _LOGGER.warning(
            "TensorRT %s takes 16 bits only from the graph, and model '%s' has no mixed-precision "
            "graphs (`aopsam export --mixed` writes them): using 32 bits",
            self._trt.version,
            self._bundle.name,
        )
        return [Precision.FULL]

    def _find(self, graph: str, precision: Precision) -> bytes | None:
        """Return a usable plan of this precision, None if there can be none."""
        is_typed = precision is Precision.TYPED_HALF
        content = (self._bundle.mixed_graphs if is_typed else self._bundle.graphs)[graph].read()
        key = self._key(graph, precision, content)
        known = self._cache.find(key)
        if known is None:
            what = f"waiting for another process that builds the engine of {graph}"
            with self._cache.locked(key, functools.partial(self._on_progress, what, None, 0.0)):
                known = self._cache.find(key)  # what the other process has left
                if known is None:
                    return self._make(graph, precision, content, key)
        if known.refusal:
            _LOGGER.info("%s: not in %s: %s", graph, precision.value, known.refusal)
        return known.plan

    def _make(
        self, graph: str, precision: Precision, content: bytes, key: EngineKey
    ) -> bytes | None:
        """Build, verify and keep a plan; None where one in 32 bits should be tried instead."""
        what = f"building the TensorRT engine of {graph}, {precision.value}"
        _LOGGER.warning("%s: this takes minutes, once", what)
        try:
            with _reported(what, self._on_progress) as set_share:
                plan = self._trt.build(content, precision, *self._inputs(graph), set_share)
                _verify(self._bundle, self._trt, self._device, graph, plan)
        except (EngineError, InferenceError, VerificationError) as error:
            if isinstance(error, VerificationError):  # that will not change; a lack of memory may
                self._cache.refuse(key, str(error))
            if precision is Precision.FULL:
                raise EngineError(f"{graph}: {error}") from error
            _LOGGER.warning("%s: %s; trying 32 bits", graph, error)
            return None
        self._cache.store(key, plan)
        return plan

    def _key(self, graph: str, precision: Precision, content: bytes) -> EngineKey:
        # Weights exported at two image sizes may be the same graph, with open sides.
        inputs, ranges = self._inputs(graph)
        profile = {name: tuple(shapes) for name, shapes in ranges.items()}
        return {
            "graph": graph,
            "onnx": hashlib.sha256(content).hexdigest(),
            "tensorrt": self._trt.version,
            "gpu": self._device.name,
            "compute_capability": self._device.compute_capability,
            "cuda": self._device.driver_version,
            "precision": precision.value,
            "inputs": str(sorted(inputs.items())),
            "profile": str(sorted(profile.items())),
            "workspace": str(WORKSPACE_BYTES),
        }

    def _inputs(self, graph: str) -> tuple[Shapes, dict[str, Range]]:
        """Return a graph's inputs, and ranges of the dynamic ones: N prompts of K points."""
        signature = self._signatures[graph]
        inputs = {**signature.inputs, **signature.optional_inputs}
        return inputs, {
            name: Range(sized(shape, 1, 1), sized(shape, *self._usual), sized(shape))
            for name, shape in inputs.items()
            if None in shape
        }


def _verify(bundle: Bundle, trt: TensorRt, device: Device, graph: str, plan: bytes) -> None:
    """Compare a plan with ONNX Runtime on the CPU, in 32 bits, in memory of its own.

    Raises:
        VerificationError: if an output is not finite or too far from the reference's.
        EngineError: if the plan cannot be run, or there is no ONNX Runtime.
        InferenceError: if it fails.
    """

    def run(sample: Arrays) -> Arrays:
        shapes = runner.run({name: sample[name] for name in runner.signature.inputs})
        return {name: memory.read(name, shapes[name]) for name in runner.signature.outputs}

    samples = sample_inputs(bundle)
    (encoded,) = _references(bundle, ENCODER, samples[ENCODER])
    given = [{"embedding": encoded["embedding"], **sample} for sample in samples[graph]]
    wanted = _references(bundle, graph, given)
    with (
        closing(Memory(device)) as memory,
        closing(GraphRunner(trt, bundle, graph, plan, memory)) as runner,
    ):
        verify(f"TensorRT {trt.version}", map(run, given), wanted)


def _references(bundle: Bundle, graph: str, samples: Sequence[Arrays]) -> list[Arrays]:
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
    taken = [node.name for node in session.get_inputs()]
    given = [node.name for node in session.get_outputs()]
    return [
        dict(zip(given, session.run(given, {name: sample[name] for name in taken}), strict=True))
        for sample in samples
    ]


@contextmanager
def _reported(what: str, on_progress: OnProgress) -> Iterator[Callable[[float], None]]:
    """Call `on_progress` once a second from a thread while the block runs.

    Yields:
        A function that takes the share that is done, 0-1, from any thread.
    """
    began, ended = time.monotonic(), threading.Event()
    shares: list[float | None] = [None]

    def report() -> None:
        while True:
            on_progress(what, shares[-1], time.monotonic() - began)
            if ended.wait(PERIOD_S):
                return

    thread = threading.Thread(target=report, name="aopsam_progress", daemon=True)
    thread.start()
    try:
        yield shares.append
    finally:
        ended.set()
        thread.join()
