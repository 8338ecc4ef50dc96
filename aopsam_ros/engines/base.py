"""What every engine takes and gives: its options, the protocol, and what graphs answer."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.geometry import Sides

AUTO, FP16, FP32, INT8 = "auto", "fp16", "fp32", "int8"
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


class Engine(Protocol):
    """Runs a bundle's graphs; embeddings are opaque handles that stay on the device.

    Every method that runs a graph or reads a result raises InferenceError if the graph fails, or
    gives values of another shape or that are not finite.
    """

    name: str  # one of `registry.ENGINES`
    device: str  # where the graphs run: "cpu", "cuda"
    precision: str  # how it computes, for people: "fp32", "fp16 but encoder"
    largest_batch: int | None  # the most prompts `decode` takes at once; None: any number
    concurrent: bool  # whether several threads at once may use it, each with embeddings of its own
    keeps_embeddings: bool  # whether handles stay valid after another image was encoded
    has_predictor: bool  # whether the bundle came with a prompt predictor, for `predict`

    @property
    def num_masks(self) -> int:
        """M, masks of a prompt: 3 alternatives, or 4 with SAM's single mask, which is the first."""

    @property
    def efficient_batch(self) -> int:
        """From how many prompts at once on more take no less time for each."""

    @property
    def accepts_mask_input(self) -> bool:
        """Whether `decode` takes masks to begin with; where it runs in parts, this loads more."""

    def encode(self, image: NDArray[np.float32], valid: Sides | None = None) -> Any:  # noqa: ANN401
        """Encode an image to an embedding's handle.

        Args:
            image: normalised and padded, `[1, 3, S, S]`.
            valid: rows and columns that show the image; what lies beyond may be left out.
        """

    def embedding(self, handle: Any) -> NDArray[np.float32]:  # noqa: ANN401
        """Copy an embedding to the host, `[1, C, S', S']`."""

    def semantic_map(self, handle: Any) -> NDArray[np.float32] | None:  # noqa: ANN401
        """Copy an image's semantic features to the host, `[1, D, S/32, S/32]`.

        None where the bundle's encoder gives none.
        """

    def attention(self, handle: Any) -> NDArray[np.float32] | None:  # noqa: ANN401
        """Copy how much each of N cells of the square attends to each to the host, `[1, N, N]`.

        None where the bundle's encoder gives none.
        """

    def predict(self, image: NDArray[np.float32], handle: Any) -> Prediction:  # noqa: ANN401
        """Return where prompts should be, and how far their objects reach."""

    def decode(
        self,
        handle: Any,  # noqa: ANN401
        coords: NDArray[np.float32],
        labels: NDArray[np.float32],
        mask_input: NDArray[np.float32] | None = None,
    ) -> Decoded:
        """Decode N prompts of K points, at most `largest_batch`.

        Args:
            handle: from `encode`.
            coords: `[N, K, 2]` in pixels of the padded square.
            labels: `[N, K]`: 1 foreground, 0 background, 2 and 3 box corners, -1 padding.
            mask_input: logits to begin with, `[N, 1, side, side]`, such as a mask of the last call.
        """

    def embed_masks(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the bundle's `labeller`, which is loaded by the first call.

        Args:
            inputs: of N masks, at most 32: crops `[N, 3, L, L]`, RGB 0 to 255, or features
                `[N, D]`, of unit length, as the bundle says.

        Returns:
            `[N, E]`, in the space of text embeddings.
        """

    def close(self) -> None:
        """Free everything; the engine cannot be used afterwards."""


def half_precision(graphs: Collection[str], full: Collection[str]) -> str:
    """Describe an engine's precision for people: "fp16", "fp32", or "fp16 but" some graphs.

    Args:
        graphs: names of all.
        full: names of those that compute in 32 bits.
    """
    if not full:
        return FP16
    return FP32 if len(full) == len(graphs) else f"{FP16} but {', '.join(full)}"
