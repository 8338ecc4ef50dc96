"""What prompts are, and what a source of prompts may look at to propose them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.geometry import FrameGeometry
from aopsam_ros.options import SegmenterOptions
from aopsam_ros.prompting.boxes import Boxes
from aopsam_ros.prompting.features import FeatureMap

FOREGROUND = 1.0
BOX_CORNERS = (2.0, 3.0)  # top left, bottom right


@dataclass(frozen=True)
class PromptSet:
    """N prompts of K points each, best first.

    `coords` float64 `[N, K, 2]` (x, y) in source pixels; `labels` float32 `[N, K]` (1 foreground,
    0 background, 2 and 3 box corners, -1 padding); `anchors` float64 `[N, 2]`, the one point that
    stands for each prompt in messages and in ASF filtering; `confidence` float32 `[N]` in 0-1. The
    first `certain` of them are never dropped by filtering.
    """

    coords: NDArray[np.float64]
    labels: NDArray[np.float32]
    anchors: NDArray[np.float64]
    confidence: NDArray[np.float32]
    certain: int = 0

    def __len__(self) -> int:
        """Return the number of prompts."""
        return len(self.anchors)


def point_prompts(
    points: NDArray[np.float64], confidence: NDArray[np.float32], certain: int = 0
) -> PromptSet:
    """Make one foreground prompt of each point `[N, 2]`."""
    labels = np.full((len(points), 1), FOREGROUND, np.float32)
    return PromptSet(points[:, None, :], labels, points, confidence, certain)


def box_prompts(boxes: Boxes, anchors: NDArray[np.float64]) -> PromptSet:
    """Make one prompt of two corners of each box; `anchors` `[N, 2]` stand for them."""
    labels = np.tile(np.array(BOX_CORNERS, np.float32), (len(boxes), 1))
    return PromptSet(boxes.corners.reshape(-1, 2, 2), labels, anchors, boxes.confidence)


@dataclass(frozen=True)
class FrameInput:
    """One frame as a prompt source sees it; what the source did not ask for may be None.

    `confidence_map` is the PCM, float32 `[P, P]` over the padded square; `boxes` are a detector's,
    in source pixels.
    """

    geometry: FrameGeometry
    options: SegmenterOptions
    confidence_map: NDArray[np.float32] | None = None
    features: FeatureMap | None = None
    boxes: Boxes | None = None


class PromptSource(Protocol):
    """Proposes prompts for a frame.

    `adaptive` sources are cut at `asf.max_prompts` and thinned by ASF filtering; the others are
    decoded whole.
    """

    @property
    def name(self) -> str:
        """The name users type."""

    @property
    def needs_confidence_map(self) -> bool:
        """Whether the prompt predictor has to run."""

    @property
    def needs_features(self) -> bool:
        """Whether the embedding has to come to the host."""

    @property
    def needs_boxes(self) -> bool:
        """Whether boxes have to come with every frame."""

    @property
    def adaptive(self) -> bool:
        """Whether max_prompts and ASF filtering apply."""

    @property
    def defaults_group(self) -> str:
        """The group in the bundle's defaults with this source's own options, or ''."""

    @property
    def mask_options(self) -> dict[str, object]:
        """Mask options this source sets where the bundle says nothing."""

    def crop_layers(self, options: SegmenterOptions) -> int:
        """Return how many layers of crops of the image it is to be asked for, too."""

    def propose(self, frame: FrameInput) -> PromptSet:
        """Return the prompts of a frame, best first."""
