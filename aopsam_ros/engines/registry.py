"""Choosing the engine that runs a bundle."""

from __future__ import annotations

import contextlib
import logging
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aopsam_ros.bundle.loading import Bundle
from aopsam_ros.engines.base import Runtime
from aopsam_ros.engines.precision import INT8
from aopsam_ros.engines.progress import OnProgress, silent
from aopsam_ros.engines.tensorrt.cuda import load_driver
from aopsam_ros.errors import CudaError, EngineError

AUTO = "auto"
ENGINES = ("tensorrt", "openvino", "onnxruntime")  # every name the interface knows
FLOATS = (AUTO, "fp16", "fp32")
PRECISIONS = (*FLOATS, INT8)

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Request:
    """What a user asked for, as every engine's maker takes it."""

    bundle: Bundle
    threads: int
    precision: str
    on_progress: OnProgress


def create_runtime(
    bundle: Bundle,
    engine: str = AUTO,
    threads: int = 0,
    precision: str = AUTO,
    on_progress: OnProgress = silent,
) -> Runtime:
    """Load a bundle's graphs into an engine.

    Args:
        bundle: from `load_bundle`.
        engine: a name of `ENGINES`, or "auto" for the best one that works on this machine.
        threads: of one graph's operators on a CPU; 0 leaves the choice to the engine.
        precision: of engines on a GPU and of OpenVINO: 16 bits where results stay right, with
            "fp16" always, with "auto" on a GPU and, in OpenVINO, on processors with AMX; "fp32"
            never. "int8" is ONNX Runtime's on a CPU, for bundles with such an encoder; nothing
            else takes it.
        on_progress: told once a second while an engine is built.

    Raises:
        EngineError: if engine or precision is unknown, or cannot be used on this machine.
        BundleError: if a graph is missing, altered or of another signature.
    """
    _check(engine, precision)
    request = _Request(bundle, threads, precision, on_progress)
    if engine == AUTO and precision != INT8:
        return _automatic(request)
    # Only one engine computes in 8 bits: a matter of what was asked for, not of the machine.
    runtime = _MAKERS["onnxruntime" if precision == INT8 else engine](request)
    _LOGGER.info("engine %s on %s (as requested)", runtime.name, runtime.device)
    return runtime


def _automatic(request: _Request) -> Runtime:
    """Return the first engine that works: TensorRT, others on a GPU, those on a CPU."""
    reasons = ""
    for name, make in _FIRST.items():
        try:
            runtime = make(request)
            break
        except EngineError as error:
            reasons += f"; {name}: {error}"
    else:
        runtime = _onnxruntime(request)
    # A GPU that stays idle is worth a warning; that there is none is not.
    level = logging.WARNING if runtime.device == "cpu" and _has_gpu() else logging.INFO
    _LOGGER.log(level, "engine %s on %s (auto%s)", runtime.name, runtime.device, reasons)
    return runtime


def _check(engine: str, precision: str) -> None:
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


def _onnxruntime(request: _Request) -> Runtime:
    try:
        from aopsam_ros.engines.onnx_runtime import OnnxRuntime
    except ImportError as error:
        raise EngineError(
            f"engine 'onnxruntime' cannot be imported ({error}); install it with: "
            "pip install onnxruntime"
        ) from error
    return OnnxRuntime(request.bundle, request.threads, request.precision)


def _tensorrt(request: _Request) -> Runtime:
    from aopsam_ros.engines.tensorrt.runtime import TensorRtRuntime

    return TensorRtRuntime(request.bundle, request.precision, request.on_progress)


def _openvino(request: _Request) -> Runtime:
    from aopsam_ros.engines.openvino.runtime import OpenVinoRuntime

    return OpenVinoRuntime(request.bundle, request.threads, request.precision)


def _openvino_on_x86(request: _Request) -> Runtime:
    """Make OpenVINO's engine on the processors where it was measured: a tenth faster at best."""
    if platform.machine().lower() not in _X86:
        raise EngineError(f"not measured on {platform.machine()}")
    _refuse_where_onnxruntime_has_a_gpu()
    return _openvino(request)


def _refuse_where_onnxruntime_has_a_gpu() -> None:
    with contextlib.suppress(ImportError):
        import onnxruntime

        if "CUDAExecutionProvider" in onnxruntime.get_available_providers() and _has_gpu():
            raise EngineError("not needed, onnxruntime uses the GPU")


_X86 = ("x86_64", "amd64")
_MAKERS: Mapping[str, Callable[[_Request], Runtime]] = {
    "tensorrt": _tensorrt,
    "openvino": _openvino,
    "onnxruntime": _onnxruntime,
}
# What is tried before ONNX Runtime where nobody asks for an engine.
_FIRST: Mapping[str, Callable[[_Request], Runtime]] = {
    "tensorrt": _tensorrt,
    "openvino": _openvino_on_x86,
}
