"""What every engine takes and gives: its options, the protocol, and decoded masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.engines.fitting import Sides

AUTO = "auto"
# What is being done, the share of it that is done (0-1; None: unknown), and seconds since it began.
OnProgress = Callable[[str, "float | None", float], None]


def silent(what: str, share: float | None, seconds: float) -> None:
    """Report no progress."""


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """Which engine runs a bundle, and how.

    Attributes:
        engine: a name of `registry.ENGINES`; "auto": the best one that works on this machine.
        precision: "auto", "fp16", "fp32" or "int8"; see `registry.create_engine`.
        threads: of one graph's operators on a CPU; 0 leaves the choice to the engine.
    """

    engine: str = AUTO
    precision: str = AUTO
    threads: int = 0


DEFAULTS = EngineOptions()


class Decoded(Protocol):
    """The masks of N prompts; valid until the engine decodes again."""

    @property
    def predicted_iou(self) -> NDArray[np.float32]:
        """Predicted IoU, `[N, 3]`."""

    def logits(self, prompts: NDArray[np.int64], masks: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return logits `[n, M, M]` of the mask `masks[i]` of the prompt `prompts[i]`.

        Raises:
            InferenceError: if they cannot be had, or are not finite.
        """


@dataclass(frozen=True)
class DecodedOnHost:
    """Logits `[N, 3, M, M]` that are in the host's memory already."""

    all_logits: NDArray[np.float32]
    predicted_iou: NDArray[np.float32]

    def logits(self, prompts: NDArray[np.int64], masks: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return logits `[n, M, M]`; see `Decoded`."""
        return self.all_logits[prompts, masks]


def all_logits(decoded: Decoded) -> NDArray[np.float32]:
    """Return the logits of every mask, `[N, 3, M, M]`.

    Raises:
        InferenceError: if they cannot be had, or are not finite.
    """
    if isinstance(decoded, DecodedOnHost):
        return decoded.all_logits
    prompts, masks = np.indices(decoded.predicted_iou.shape).reshape(2, -1)
    found = decoded.logits(prompts, masks)
    return found.reshape(*decoded.predicted_iou.shape, *found.shape[1:])


class Engine(Protocol):
    """Runs a bundle's graphs; embeddings are opaque handles that stay on the device."""

    name: str

    @property
    def largest_batch(self) -> int | None:
        """The most prompts `decode` takes at once; None: any number."""

    @property
    def device(self) -> str:
        """Where the graphs run: "cpu", "cuda"."""

    @property
    def concurrent(self) -> bool:
        """Whether several threads at once may use it, each with embeddings of its own."""

    @property
    def precision(self) -> str:
        """How it computes, for people: "fp32", "fp16 but encoder"."""

    @property
    def has_predictor(self) -> bool:
        """Whether `predict` can be called."""

    def encode(self, image: NDArray[np.float32], valid: Sides | None = None) -> Any:  # noqa: ANN401
        """Encode `[1, 3, S, S]` to an embedding's handle.

        `valid` rows and columns show the image: an engine may leave out what lies beyond.
        """

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
