"""What every engine takes and gives: its options, and what graphs answer."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

AUTO, FP16, FP32, INT8 = "auto", "fp16", "fp32", "int8"
Arrays = Mapping[str, NDArray[np.float32]]  # by the name of a graph's input or output
# What is being done, the share of it that is done (0-1; None: unknown), and seconds since it began.
OnProgress = Callable[[str, "float | None", float], None]


def silent(what: str, share: float | None, seconds: float) -> None:
    """Report no progress."""


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """Which engine runs a bundle, and how."""

    # a name of `registry.ENGINES`; "auto": the best one that works on this machine
    engine: str = AUTO
    precision: str = AUTO  # "auto", "fp16", "fp32" or "int8"; see `registry.create_engine`
    threads: int = 0  # of one graph's operators on a CPU; 0 leaves the choice to the engine


DEFAULTS = EngineOptions()


class Prediction(NamedTuple):
    """What the prompt predictor finds, over the padded square of `P` x `P` cells."""

    confidence_map: NDArray[np.float32]  # float32 `[P, P]` in 0-1
    # float32 `[4, P, P]`: distances from each cell to the left, top, right and bottom of its
    # object, in sides of the square; None where the bundle's predictor gives none
    extent_map: NDArray[np.float32] | None = None

    def maps(self) -> dict[str, NDArray[np.float32]]:
        """Return the maps there are, by name."""
        return {name: array for name, array in self._asdict().items() if array is not None}


class Decoded(Protocol):
    """The M masks of each of N prompts; valid until the engine decodes again.

    A prompt's masks of 256 x 256 logits are 786 kB, and most of them end at their predicted IoU: an
    engine on a GPU leaves logits there until they are asked for.
    """

    @property
    def predicted_iou(self) -> NDArray[np.float32]:
        """Predicted IoU, `[N, M]`."""

    def logits(self, prompts: NDArray[np.int64], masks: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return logits `[n, side, side]` of the mask `masks[i]` of the prompt `prompts[i]`.

        Raises:
            InferenceError: if they cannot be had, or are not finite.
        """


@dataclass(frozen=True)
class DecodedOnHost:
    """Logits `[N, M, side, side]` that are in the host's memory already."""

    all_logits: NDArray[np.float32]
    predicted_iou: NDArray[np.float32]

    def logits(self, prompts: NDArray[np.int64], masks: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return logits `[n, side, side]`; see `Decoded`."""
        return self.all_logits[prompts, masks]


def all_logits(decoded: Decoded) -> NDArray[np.float32]:
    """Return the logits of every mask, `[N, M, side, side]`.

    Raises:
        InferenceError: if they cannot be had, or are not finite.
    """
    if isinstance(decoded, DecodedOnHost):
        return decoded.all_logits
    prompts, masks = np.indices(decoded.predicted_iou.shape).reshape(2, -1)
    found = decoded.logits(prompts, masks)
    return found.reshape(*decoded.predicted_iou.shape, *found.shape[1:])


def half_precision(graphs: Collection[str], full: Collection[str]) -> str:
    """Describe an engine's precision for people: "fp16", "fp32", or "fp16 but" some graphs.

    `full` are those of the graphs that compute in 32 bits.
    """
    if not full:
        return FP16
    return FP32 if len(full) == len(graphs) else f"{FP16} but {', '.join(full)}"
