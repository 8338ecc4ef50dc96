"""Choosing the engine that runs a bundle."""

from __future__ import annotations

import contextlib
import logging
import platform
from collections.abc import Callable, Mapping

from aopsam_ros.bundle.loading import Bundle
from aopsam_ros.engines.base import AUTO, DEFAULTS, Engine, EngineOptions, OnProgress, silent
from aopsam_ros.engines.precision import INT8
from aopsam_ros.engines.tensorrt.cuda import load_driver
from aopsam_ros.errors import CudaError, EngineError

ENGINES = ("tensorrt", "openvino", "onnxruntime")  # every name the interface knows
FLOATS = (AUTO, "fp16", "fp32")
PRECISIONS = (*FLOATS, INT8)

_LOGGER = logging.getLogger(__name__)


def create_engine(
    bundle: Bundle, options: EngineOptions = DEFAULTS, on_progress: OnProgress = silent
) -> Engine:
    """Load a bundle's graphs into an engine.

    Args:
        bundle: from `load_bundle`.
        options: `precision` is that of engines on a GPU and of OpenVINO: 16 bits where results
            stay right, with "fp16" always, with "auto" on a GPU and, in OpenVINO, on processors
            with AMX; "fp32" never. "int8" is ONNX Runtime's on a CPU, for bundles with such an
            encoder; nothing else takes it.
        on_progress: called once a second while an engine is built.

    Raises:
        EngineError: if engine or precision is unknown, or cannot be used on this machine.
        BundleError: if a graph is missing, altered or of another signature.
    """
    _check(options)
    if options.engine == AUTO and options.precision != INT8:
        return _automatic(bundle, options, on_progress)
    # Only one engine computes in 8 bits: a matter of what was asked for, not of the machine.
    name = "onnxruntime" if options.precision == INT8 else options.engine
    engine = _MAKERS[name](bundle, options, on_progress)
    _LOGGER.info("engine %s on %s (as requested)", engine.name, engine.device)
    return engine


def _automatic(bundle: Bundle, options: EngineOptions, on_progress: OnProgress) -> Engine:
    """Return the first engine that works: TensorRT, others on a GPU, those on a CPU."""
    reasons = ""
    for name, make in _FIRST.items():
        try:
            engine = make(bundle, options, on_progress)
            break
        except EngineError as error:
            reasons += f"; {name}: {error}"
    else:
        engine = _onnxruntime(bundle, options, on_progress)
    # A GPU that stays idle is worth a warning; that there is none is not.
    level = logging.WARNING if engine.device == "cpu" and _has_gpu() else logging.INFO
    _LOGGER.log(level, "engine %s on %s (auto%s)", engine.name, engine.device, reasons)
    return engine


def _check(options: EngineOptions) -> None:
    engine, precision = options.engine, options.precision
    if engine not in (AUTO, *ENGINES):
        raise EngineError(f"unknown engine '{engine}'; known: {AUTO}, {', '.join(ENGINES)}")
    if precision not in PRECISIONS:
        raise EngineError(f"unknown precision '{precision}'; known: {', '.join(PRECISIONS)}")
    if precision == INT8 and engine not in (AUTO, "onnxruntime"):
        raise EngineError(f"precision '{INT8}' is for engine 'onnxruntime', not for '{engine}'")


def _has_gpu() -> bool:
    try:
        load_driver()
    except CudaError:
        return False
    return True


def _onnxruntime(bundle: Bundle, options: EngineOptions, _on_progress: OnProgress) -> Engine:
    try:
        from aopsam_ros.engines.onnxruntime import OnnxRuntimeEngine
    except ImportError as error:
        raise EngineError(
            f"engine 'onnxruntime' cannot be imported ({error}); install it with: "
            "pip install onnxruntime"
        ) from error
    return OnnxRuntimeEngine(bundle, options)


def _tensorrt(bundle: Bundle, options: EngineOptions, on_progress: OnProgress) -> Engine:
    from aopsam_ros.engines.tensorrt.engine import TensorRtEngine

    return TensorRtEngine(bundle, options, on_progress)


def _openvino(bundle: Bundle, options: EngineOptions, _on_progress: OnProgress) -> Engine:
    from aopsam_ros.engines.openvino.engine import OpenVinoEngine

    return OpenVinoEngine(bundle, options)


def _openvino_on_x86(bundle: Bundle, options: EngineOptions, on_progress: OnProgress) -> Engine:
    """Make OpenVINO's engine on the processors where it was measured: a tenth faster at best."""
    if platform.machine().lower() not in _X86:
        raise EngineError(f"not measured on {platform.machine()}")
    _refuse_where_onnxruntime_has_a_gpu()
    return _openvino(bundle, options, on_progress)


def _refuse_where_onnxruntime_has_a_gpu() -> None:
    with contextlib.suppress(ImportError):
        import onnxruntime

        if "CUDAExecutionProvider" in onnxruntime.get_available_providers() and _has_gpu():
            raise EngineError("not needed, onnxruntime uses the GPU")


_Maker = Callable[[Bundle, EngineOptions, OnProgress], Engine]
_X86 = ("x86_64", "amd64")
_MAKERS: Mapping[str, _Maker] = {
    "tensorrt": _tensorrt,
    "openvino": _openvino,
    "onnxruntime": _onnxruntime,
}
# What is tried before ONNX Runtime where nobody asks for an engine.
_FIRST: Mapping[str, _Maker] = {
    "tensorrt": _tensorrt,
    "openvino": _openvino_on_x86,
}
