"""The installed TensorRT, whichever: all that differs between 8.6, 10 and 11 is in this file.

What there is, is found by name, not derived from the version:

- `NetworkDefinitionCreationFlag.EXPLICIT_BATCH`: needed on 8.6, without effect on 10, gone on 11.
- `NetworkDefinitionCreationFlag.STRONGLY_TYPED`: from 9 on; 11 knows no other networks.
- `BuilderFlag.FP16`, layer precisions: until 10; from 11 on, only the graph says what is 16 bits.
- `IProgressMonitor`: from 10 on.
"""

import enum
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from aopsam_ros.bundle.signatures import POINTS, Described, Shapes
from aopsam_ros.errors import EngineError

WORKSPACE_BYTES = 1 << 30  # for one layer; a board shares its memory with everything else
# In 16 bits these overflow or lose digits: a norm's sum of squares, a softmax's exponentials.
_FULL_PRECISION_LAYERS = ("NORMALIZATION", "SOFTMAX", "REDUCE")

_LOGGER = logging.getLogger(__name__)


class Precision(enum.Enum):
    """How an engine computes."""

    FULL = "fp32"
    # The float32 graph; TensorRT chooses which layers take 16 bits, but for the ones above.
    CHOSEN_HALF = "fp16, chosen by TensorRT"
    # The mixed-precision graph; TensorRT computes as it says.
    TYPED_HALF = "fp16, as the graph says"


class Range(NamedTuple):
    """Least, usual and largest shape of a dynamic input."""

    least: tuple[int, ...]
    usual: tuple[int, ...]
    largest: tuple[int, ...]


class TensorRt:
    """One imported `tensorrt` module."""

    def __init__(self, module: Any = None) -> None:  # noqa: ANN401
        """Take a module; import `tensorrt` if None. Raises EngineError if it is older than 8.6."""
        self.module = _import() if module is None else module
        self.version = str(self.module.__version__)
        if not hasattr(self.module.IExecutionContext, "execute_async_v3"):
            raise EngineError(f"TensorRT {self.version} is too old: 8.6 or newer is needed")
        flags = self.module.NetworkDefinitionCreationFlag
        self._strong = getattr(flags, "STRONGLY_TYPED", None)
        self._chooses_half = hasattr(self.module.BuilderFlag, "FP16")
        self._logger = _make_logger(self.module)
        self._runtime: Any = None

    @property
    def last_error(self) -> str:
        """The last error that TensorRT reported, in one line."""
        return str(self._logger.last_error)

    def half(self, has_mixed_graph: bool) -> Precision | None:
        """Return how 16 bits can be had, with or without a mixed-precision graph; None: not."""
        if has_mixed_graph and self._strong is not None:
            return Precision.TYPED_HALF
        return Precision.CHOSEN_HALF if self._chooses_half else None

    def build(
        self,
        graph: bytes,
        precision: Precision,
        inputs: Shapes,
        ranges: Mapping[str, Range],
        on_share: Callable[[float], None],
    ) -> bytes:
        """Build a plan, which takes minutes.

        Args:
            graph: ONNX; with `TYPED_HALF` the mixed-precision one.
            precision: see `half`.
            inputs: their sizes, also of inputs that the graph may lack; where all are numbers they
                are the only ones, whatever the graph may take.
            ranges: of the dynamic inputs.
            on_share: called with the share done, 0-1, where TensorRT says so.

        Raises:
            EngineError: if TensorRT refuses the graph or cannot build.
        """
        builder = self.module.Builder(self._logger)
        network = builder.create_network(self._network_flags(precision))
        self._parse(network, graph)
        for tensor in _inputs(network):
            shape = inputs.get(tensor.name, (None,))
            if None not in shape and -1 in tuple(tensor.shape):
                tensor.shape = shape
        config = builder.create_builder_config()
        config.set_memory_pool_limit(self.module.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
        if ranges:
            profile = builder.create_optimization_profile()
            for name in sorted({tensor.name for tensor in _inputs(network)} & ranges.keys()):
                profile.set_shape(name, *ranges[name])
            config.add_optimization_profile(profile)
        if precision is Precision.CHOSEN_HALF:
            self._allow_half(config, network)
        if hasattr(self.module, "IProgressMonitor"):
            config.progress_monitor = _make_monitor(self.module, on_share)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise EngineError(f"TensorRT {self.version} cannot build the engine: {self.last_error}")
        return bytes(plan)

    def load(self, plan: bytes) -> Any:  # noqa: ANN401  (an ICudaEngine)
        """Return the engine of a plan.

        Raises:
            EngineError: if it was built by another version or for another GPU.
        """
        if self._runtime is None:  # one for all engines, which need it as long as they live
            self._runtime = self.module.Runtime(self._logger)
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise EngineError(f"TensorRT {self.version} cannot load the engine: {self.last_error}")
        return engine

    def describe(self, engine: Any) -> tuple[Described, Described]:  # noqa: ANN401
        """Return the inputs and the outputs of an engine from `load`."""
        modes = self.module.TensorIOMode
        found: dict[Any, dict[str, tuple[str, list[object]]]] = {modes.INPUT: {}, modes.OUTPUT: {}}
        for name in map(engine.get_tensor_name, range(engine.num_io_tensors)):
            dtype = engine.get_tensor_dtype(name)
            kind = "float" if dtype == self.module.DataType.FLOAT else dtype
            sizes = [size if size >= 0 else "any" for size in engine.get_tensor_shape(name)]
            found[engine.get_tensor_mode(name)][name] = f"tensor({kind})", sizes
        return found[modes.INPUT], found[modes.OUTPUT]

    def _network_flags(self, precision: Precision) -> int:
        # Where layers have no precision of their own, there are no other networks than typed ones.
        is_typed = precision is Precision.TYPED_HALF or not self._chooses_half
        if self._strong is not None and is_typed:
            return 1 << int(self._strong)
        batch = getattr(self.module.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
        return 0 if batch is None else 1 << int(batch)

    def _parse(self, network: Any, graph: bytes) -> None:  # noqa: ANN401
        parser = self.module.OnnxParser(network, self._logger)
        if not parser.parse(graph):
            reasons = [parser.get_error(i).desc() for i in range(parser.num_errors)]
            raise EngineError(
                f"TensorRT {self.version} cannot read the graph: "
                f"{_line('; '.join(reasons)) or self.last_error}"
            )

    def _allow_half(self, config: Any, network: Any) -> None:  # noqa: ANN401
        """Let TensorRT choose 16 bits wherever they do no harm."""
        flags, float32 = self.module.BuilderFlag, self.module.DataType.FLOAT
        config.set_flag(flags.FP16)
        config.set_flag(flags.OBEY_PRECISION_CONSTRAINTS)
        kinds = {getattr(self.module.LayerType, name) for name in _FULL_PRECISION_LAYERS}
        layers = [network.get_layer(index) for index in range(network.num_layers)]
        of_prompts = _layers_of_prompts(layers)
        for layer in layers:
            # Sizes and indices pass through such layers too: only numbers have a precision.
            is_kept = layer.type in kinds or layer.name in of_prompts
            if is_kept and layer.get_output(0).dtype == float32:
                layer.precision = float32
                layer.set_output_type(0, float32)


def _inputs(of: Any) -> list[Any]:  # noqa: ANN401
    """Return the tensors that a network or a layer takes."""
    return [of.get_input(index) for index in range(of.num_inputs)]


def _layers_of_prompts(layers: Sequence[Any]) -> set[str]:
    """Return the names of the layers that depend on points, and on nothing else but constants.

    In 16 bits, coordinates would be a raster of half a pixel at 1024 pixels.
    """
    prompts, constants, found = set(POINTS), set[str](), set[str]()
    for layer in layers:  # in the order of their computation
        inputs = {tensor.name for tensor in _inputs(layer) if tensor is not None}
        outputs = {layer.get_output(i).name for i in range(layer.num_outputs)}
        if inputs <= constants:
            constants |= outputs
        elif inputs <= prompts | constants:
            prompts |= outputs
            found.add(layer.name)
    return found


def _import() -> Any:  # noqa: ANN401
    try:
        import tensorrt
    except Exception as error:  # a broken install fails in many ways
        raise EngineError(f"TensorRT cannot be imported ({_line(str(error))})") from error
    return tensorrt


def _make_logger(trt: Any) -> Any:  # noqa: ANN401
    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
        """Hands TensorRT's messages on, and keeps the last error."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last_error = "no reason given"

        def log(self, severity: Any, msg: str) -> None:  # noqa: ANN401
            is_error = severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR)
            if is_error:
                self.last_error = _line(msg)
            _LOGGER.log(logging.WARNING if is_error else logging.DEBUG, "TensorRT: %s", msg)

    return Logger()


def _make_monitor(trt: Any, on_share: Callable[[float], None]) -> Any:  # noqa: ANN401
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        """Follows the outermost phase of a build."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                self._steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self._steps:
                on_share((step + 1) / max(1, self._steps[phase_name]))
            return True

        def phase_finish(self, phase_name: str) -> None:
            self._steps.pop(phase_name, None)

    return Monitor()


def _line(text: str) -> str:
    return " ".join(text.split())[:300]
