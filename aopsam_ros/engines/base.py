"""What every engine can do with a bundle."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.engines.decoded import Decoded
from aopsam_ros.engines.fitting import Sides


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
