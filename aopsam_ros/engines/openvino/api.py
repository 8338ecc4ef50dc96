"""The installed OpenVINO: what it can do on this processor, and its errors in one line."""

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aopsam_ros.engines.base import FP16, FP32
from aopsam_ros.engines.processor import has_amx
from aopsam_ros.errors import EngineError

OLDEST = (2024, 0)
CPU = "CPU"  # as OpenVINO calls it
BF16 = "bf16"
_TYPES = {FP32: "f32", BF16: "bf16"}  # as OpenVINO calls them
# What OpenVINO writes before it comes to the point.
_WHERE = ("Exception from ", "Check '", "While ")


class OpenVino:
    """The imported `openvino` package and its one core."""

    def __init__(self, threads: int = 0) -> None:
        """Import the package; `threads` are of one graph's operators, 0: as OpenVINO chooses.

        Raises:
            EngineError: if it cannot be imported, is too old or finds no CPU it can use.
        """
        self.module = _import()
        self._threads = threads
        try:
            self.core = _the_core(self.module.Core)
            capabilities = self.core.get_property(CPU, "OPTIMIZATION_CAPABILITIES")
        except Exception as error:
            raise EngineError(f"engine 'openvino' cannot be used: {reason(error)}") from error
        self.has_bf16 = "BF16" in capabilities
        # With AVX-512 BF16 alone, encoders took a quarter longer in 16 bits than in 32.
        self.gains_by_bf16 = self.has_bf16 and has_amx()

    def precision(self, asked_for: str) -> str:
        """Return "bf16" where it is asked for ("fp16") or gains time ("auto"), else "fp32"."""
        takes_it = self.has_bf16 if asked_for == FP16 else self.gains_by_bf16
        return BF16 if takes_it and asked_for != FP32 else FP32

    def compile(self, model: Any, precision: str) -> Any:  # noqa: ANN401  (OpenVINO's types)
        """Compile an `openvino.Model` for one request at a time.

        It computes in "fp32", or in "bf16" products and what lies between them.
        """
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": _TYPES[precision],
            "INFERENCE_NUM_THREADS": self._threads,
            # Pinned, every process begins with the first core: two nodes would share it.
            "ENABLE_CPU_PINNING": False,
        }
        return self.core.compile_model(model, CPU, settings)


@functools.cache
def _the_core(make: Callable[[], Any]) -> Any:  # noqa: ANN401
    """Return the process's one core, which is never freed.

    A core brings a stack for signals' handlers. Where two are freed in the order they were made,
    the first one's is put back when it is gone already, and the next signal ends the process.
    """
    return make()


def reason(error: Exception) -> str:
    """Return what OpenVINO complains of; its messages begin with its own source files."""
    lines = [line.strip() for line in str(error).splitlines()]
    lines_left = [line for line in lines if line and not line.startswith(_WHERE)]
    return (lines_left or lines or [""])[-1][:300] or type(error).__name__


def _import() -> Any:  # noqa: ANN401
    try:
        with _without_telemetry():
            import openvino
    except (ImportError, OSError) as error:
        raise EngineError(
            f"engine 'openvino' cannot be imported ({error}); install it with: pip install openvino"
        ) from error
    version = str(getattr(openvino, "__version__", "of unknown version"))
    if _number(version) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise EngineError(f"OpenVINO {version} is too old: {oldest} or newer is needed")
    return openvino


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """Hide the package through which OpenVINO reports its import over the network.

    OpenVINO can do without it. A robot's node reports to nobody that it was started.
    """
    name = "openvino_telemetry"
    before = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]  # importing it fails
    try:
        yield
    finally:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before


def _number(version: str) -> tuple[int, ...]:
    """Return year and release of "2026.4.1-22982-..."; (0,) where there are none."""
    parts = version.partition("-")[0].split(".")[:2]
    return tuple(int(part) for part in parts) if all(map(str.isdigit, parts)) else (0,)
