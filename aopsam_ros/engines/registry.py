"""Choosing the engine that runs a bundle."""

import logging
import platform
from collections.abc import Callable
from importlib.util import find_spec

from aopsam_ros.bundle.loading import Bundle
from aopsam_ros.engines.base import (
    AUTO,
    DEFAULTS,
    FP16,
    FP32,
    INT8,
    EngineOptions,
    OnProgress,
    silent,
)
from aopsam_ros.engines.engine import Engine
from aopsam_ros.engines.processor import has_amx, has_int8_dot_products
from aopsam_ros.engines.tensorrt.cuda import load_driver
from aopsam_ros.errors import CudaError, EngineError

ENGINES = ("tensorrt", "openvino", "onnxruntime")  # every name the interface knows
FLOATS = (AUTO, FP16, FP32)
PRECISIONS = (*FLOATS, INT8)

_LOGGER = logging.getLogger(__name__)


def create_engine(
    bundle: Bundle, options: EngineOptions = DEFAULTS, on_progress: OnProgress = silent
) -> Engine:
    """Load a bundle's graphs into an engine.

    | precision | TensorRT | ONNX Runtime, GPU | OpenVINO | ONNX Runtime, CPU |
    |---|---|---|---|---|
    | auto | fp16 | fp16 with mixed graphs | bf16 with AMX | int8 graphs with VNNI |
    | fp16 | fp16 | fp16 with mixed graphs | bf16 where it can | fp32 |
    | fp32 | fp32 | fp32 | fp32 | fp32 |
    | int8 | refused | refused | refused | int8 graphs, where the bundle has any |

    16 bits are taken only where results stay right, else 32; graphs in int8 were compared when
    the bundle was made. What was asked for ("fp16") and cannot be had is logged.

    Args:
        bundle: from `load_bundle`.
        options: "auto" takes TensorRT, ONNX Runtime on a GPU, OpenVINO on x86-64 where no
            encoder in 8 bits is faster, or ONNX Runtime on a CPU: the first that works.
        on_progress: called once a second while an engine is built.

    Raises:
        EngineError: if engine or precision is unknown, or cannot be used on this machine.
        BundleError: if a graph is missing, altered or of another signature.
    """
    name, precision = options.engine, options.precision
    if name not in (AUTO, *ENGINES):
        raise EngineError(f"unknown engine '{name}'; known: {AUTO}, {', '.join(ENGINES)}")
    if precision not in PRECISIONS:
        raise EngineError(f"unknown precision '{precision}'; known: {', '.join(PRECISIONS)}")
    if precision == INT8 and name not in (AUTO, "onnxruntime"):
        raise EngineError(f"precision '{INT8}' is for engine 'onnxruntime', not for '{name}'")
    if name == AUTO and precision != INT8:
        return _automatic(bundle, options, on_progress)
    # Only one engine computes in 8 bits: a matter of what was asked for, not of the machine.
    name = "onnxruntime" if precision == INT8 else name
    engine = _create(name, bundle, options, on_progress)
    _LOGGER.info("engine %s on %s (as requested)", engine.name, engine.device)
    return engine


def _automatic(bundle: Bundle, options: EngineOptions, on_progress: OnProgress) -> Engine:
    """Return the first engine that works, in `_ORDER`."""
    reasons = ""
    for name, check in _ORDER:
        try:
            check(bundle, options)
            engine = _create(name, bundle, options, on_progress)
            if name == "onnxruntime" and engine.device == "cpu":
                raise EngineError("its CUDA cannot be used here")
            break
        except EngineError as error:
            reasons += f"; {name}: {error}"
    else:
        engine = _create("onnxruntime", bundle, options, on_progress)
    # A GPU that stays idle is worth a warning; that there is none is not.
    level = logging.WARNING if engine.device == "cpu" and _has_gpu() else logging.INFO
    _LOGGER.log(level, "engine %s on %s (auto%s)", engine.name, engine.device, reasons)
    return engine


def _create(name: str, bundle: Bundle, options: EngineOptions, on_progress: OnProgress) -> Engine:
    """Make one engine; engines are imported only where they are used."""
    if name == "tensorrt":
        from aopsam_ros.engines.tensorrt.engine import TensorRtEngine

        return TensorRtEngine(bundle, options, on_progress)
    if name == "openvino":
        from aopsam_ros.engines.openvino.engine import OpenVinoEngine

        return OpenVinoEngine(bundle, options)
    try:
        from aopsam_ros.engines.onnxruntime import OnnxRuntimeEngine
    except ImportError as error:
        raise EngineError(
            f"engine 'onnxruntime' cannot be imported ({error}); install it with: "
            "pip install onnxruntime"
        ) from error
    return OnnxRuntimeEngine(bundle, options)


def _check_cuda(_bundle: Bundle, _options: EngineOptions) -> None:
    """Refuse ONNX Runtime where it is not on a GPU: on a CPU, another engine may come first."""
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError(f"cannot be imported ({error})") from error
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise EngineError("is installed without CUDA")
    if not _has_gpu():
        raise EngineError("no NVIDIA GPU")


def _check_openvino(bundle: Bundle, options: EngineOptions) -> None:
    """Refuse OpenVINO where it was not measured, or ONNX Runtime is faster in 8 bits."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        raise EngineError(f"not measured on {platform.machine()}")
    in_8_bits = options.precision == AUTO and bool(bundle.int8_graphs)
    gains = in_8_bits and has_int8_dot_products() and not has_amx()
    if gains and find_spec("onnxruntime") is not None:
        raise EngineError("slower here than onnxruntime in 8 bits")


def _has_gpu() -> bool:
    try:
        load_driver()
    except CudaError:
        return False
    return True


# What is tried before ONNX Runtime on a CPU where nobody asks for an engine, each with a check that
# raises EngineError where it is not to be tried.
_ORDER: tuple[tuple[str, Callable[[Bundle, EngineOptions], None]], ...] = (
    ("tensorrt", lambda _bundle, _options: None),
    ("onnxruntime", _check_cuda),
    ("openvino", _check_openvino),
)
