"""Choosing the engine that runs a bundle."""

from __future__ import annotations

import logging
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.errors import EngineError
from aopsam_ros.runtime.bundle import Bundle
from aopsam_ros.runtime.decoded import Decoded

AUTO = "auto"
# Every name the interface knows, in the order of preference of "auto".
ENGINES = ("tensorrt", "openvino", "onnxruntime", "torch")
BUILT_IN = ("onnxruntime",)

_LOGGER = logging.getLogger(__name__)


class Runtime(Protocol):
    """Runs a bundle's graphs; embeddings are opaque handles that stay on the device."""

    name: str

    @property
    def largest_batch(self) -> int | None:
        """The most prompts `decode` takes at once; None: any number."""

    @property
    def device(self) -> str:
        """Where the graphs run: "cpu", "cuda"."""

    @property
    def has_predictor(self) -> bool:
        """Whether `predict` can be called."""

    def encode(self, image: NDArray[np.float32]) -> Any:  # noqa: ANN401
        """Encode `[1, 3, S, S]` to an embedding's handle."""

    def embedding(self, handle: Any) -> NDArray[np.float32]:  # noqa: ANN401
        """Copy an embedding to the host, `[1, C, S', S']`."""

    def predict(self, image: NDArray[np.float32], handle: Any) -> NDArray[np.float32]:  # noqa: ANN401
        """Return the prompt confidence map, `[P, P]`."""

    def decode(
        self,
        handle: Any,  # noqa: ANN401
        coords: NDArray[np.float32],
        labels: NDArray[np.float32],
    ) -> Decoded:
        """Decode at most `largest_batch` prompts `[N, K, 2]`, `[N, K]`."""

    def close(self) -> None:
        """Free everything."""


def create_runtime(bundle: Bundle, engine: str = AUTO, threads: int = 0) -> Runtime:
    """Load a bundle's graphs into an engine.

    Args:
        bundle: from `load_bundle`.
        engine: a name of `ENGINES`, or "auto" for the best one of this build.
        threads: of one graph's operators on a CPU; 0 leaves the choice to the engine.

    Raises:
        EngineError: if the engine is unknown, not in this build or not installed.
        BundleError: if a graph is missing, altered or of another signature.
    """
    chosen = _choose(engine)
    try:
        from aopsam_ros.runtime.onnx_runtime import OnnxRuntime
    except ImportError as error:
        raise EngineError(
            f"engine '{chosen}' cannot be imported ({error}); install it with: "
            "pip install onnxruntime"
        ) from error
    runtime = OnnxRuntime(bundle, threads)
    why = "as requested" if engine != AUTO else "auto: the only engine in this build"
    _LOGGER.info("engine %s on %s (%s)", runtime.name, runtime.device, why)
    return runtime


def _choose(engine: str) -> str:
    if engine == AUTO:
        return BUILT_IN[0]
    if engine not in ENGINES:
        raise EngineError(f"unknown engine '{engine}'; known: {AUTO}, {', '.join(ENGINES)}")
    if engine not in BUILT_IN:
        raise EngineError(
            f"engine '{engine}' is not available in this build; use {AUTO} or {', '.join(BUILT_IN)}"
        )
    return engine
