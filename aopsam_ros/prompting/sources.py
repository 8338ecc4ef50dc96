"""The prompt sources: what they need of a frame, and the prompts they propose for it.

A new source (boxes of a detector, clusters of features) is one more class here and one more line in
`make_source`; what "auto" takes is decided in `automatic_source`.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.errors import OptionError
from aopsam_ros.options import AsfOptions
from aopsam_ros.preprocessing import FrameGeometry
from aopsam_ros.prompting.grid import MAX_SIDE, grid_points
from aopsam_ros.prompting.sampling import sample

FOREGROUND = 1.0
AUTO = "auto"

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class PromptSet:
    """N prompts of K points each, best first.

    `coords` float64 `[N, K, 2]` (x, y) in source pixels; `labels` float32 `[N, K]` (1 foreground,
    0 background, 2 and 3 box corners, -1 padding); `anchors` float64 `[N, 2]`, the one point that
    stands for each prompt in messages and in ASF filtering; `confidence` float32 `[N]` in 0-1.
    """

    coords: NDArray[np.float64]
    labels: NDArray[np.float32]
    anchors: NDArray[np.float64]
    confidence: NDArray[np.float32]

    def __len__(self) -> int:
        """Return the number of prompts."""
        return len(self.anchors)


def point_prompts(points: NDArray[np.float64], confidence: NDArray[np.float32]) -> PromptSet:
    """Make one foreground prompt of each point `[N, 2]`."""
    labels = np.full((len(points), 1), FOREGROUND, np.float32)
    return PromptSet(points[:, None, :], labels, points, confidence)


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
    def adaptive(self) -> bool:
        """Whether max_prompts and ASF filtering apply."""

    @property
    def defaults_group(self) -> str:
        """The group in the bundle's defaults with this source's own mask options, or ''."""

    @property
    def mask_options(self) -> dict[str, object]:
        """Mask options this source sets where the bundle says nothing."""

    def propose(
        self,
        geometry: FrameGeometry,
        confidence_map: NDArray[np.float32] | None,
        options: AsfOptions,
    ) -> PromptSet:
        """Return the prompts of a frame, best first.

        Args:
            geometry: of the frame.
            confidence_map: the PCM, `[P, P]` over the padded square, where it was asked for.
            options: of the sampling.
        """


@dataclass(frozen=True)
class PredictorSource:
    """AoP-SAM: local maxima of the prompt confidence map."""

    name: str = "predictor"
    needs_confidence_map: bool = True
    adaptive: bool = True
    defaults_group: str = ""

    @property
    def mask_options(self) -> dict[str, object]:
        """None of its own: the bundle's mask options are meant for this source."""
        return {}

    def propose(
        self,
        geometry: FrameGeometry,
        confidence_map: NDArray[np.float32] | None,
        options: AsfOptions,
    ) -> PromptSet:
        """Sample the part of the map that shows the image."""
        if confidence_map is None:
            raise OptionError("the prompt source 'predictor' needs a confidence map")
        rows, columns = geometry.valid_cells(len(confidence_map))
        cells, confidence = sample(
            confidence_map[:rows, :columns],
            options.smoothing_sigma,
            options.confidence_threshold,
            options.min_spacing,
            fill=options.sampling == "fill",
        )
        points = geometry.cells_to_source(cells[:, ::-1], len(confidence_map))
        return point_prompts(points, confidence)


@dataclass(frozen=True)
class GridSource:
    """SAM's automatic mask generator: every point of a grid, all three masks, box suppression."""

    side: int
    needs_confidence_map: bool = False
    adaptive: bool = False
    defaults_group: str = "grid"

    @property
    def name(self) -> str:
        """Return grid16, grid32, ..."""
        return f"grid{self.side}"

    @property
    def mask_options(self) -> dict[str, object]:
        """All three masks of a point compete, by box IoU, as in SAM's generator."""
        return {"mask.candidates": "all", "mask.combine": "box_nms"}

    def propose(
        self,
        geometry: FrameGeometry,
        confidence_map: NDArray[np.float32] | None,  # noqa: ARG002  (the interface has it)
        options: AsfOptions,  # noqa: ARG002
    ) -> PromptSet:
        """Lay the grid over the image; every point has confidence 1."""
        points = grid_points(self.side, geometry.height, geometry.width)
        return point_prompts(points, np.ones(len(points), np.float32))


def automatic_source(has_predictor: bool) -> str:
    """Name the source that "auto" stands for: the best one that a bundle can be used with."""
    return "predictor" if has_predictor else "grid16"


def choose_source(name: str, model: str, has_predictor: bool) -> PromptSource:
    """Return the source a user named for a model, "auto" included, and say which it is.

    Raises:
        OptionError: as `make_source`, or the source needs a predictor and the model has none.
    """
    chosen = automatic_source(has_predictor) if name == AUTO else name
    source = make_source(chosen)
    if source.needs_confidence_map and not has_predictor:
        raise OptionError(
            f"model '{model}' has no prompt predictor: choose another prompt source than "
            f"'{name}', such as {automatic_source(has_predictor)}, or train one with "
            "`aopsam train-predictor` and export the model again with --predictor"
        )
    if name == AUTO and not has_predictor:
        _LOGGER.warning("model '%s' has no prompt predictor: prompts from %s", model, chosen)
    else:
        _LOGGER.info("prompts from %s (%s)", chosen, AUTO if name == AUTO else "as requested")
    return source


def check_source(name: str) -> None:
    """Raise `make_source`'s error for a name that is no source, nor "auto"."""
    if name != AUTO:
        make_source(name)


def make_source(name: str) -> PromptSource:
    """Return the source of a name; "auto" is none before it is resolved.

    Raises:
        OptionError: unknown name, or a grid of no or too many points.
    """
    if name == "predictor":
        return PredictorSource()
    match = re.fullmatch(r"grid([0-9]{1,4})", name)
    if match is None:
        raise OptionError(
            f"unknown prompt source '{name}'; known: auto, predictor, grid16, grid32, gridN"
        )
    side = int(match.group(1))
    if not 1 <= side <= MAX_SIDE:
        raise OptionError(f"prompt source '{name}': a grid has 1 to {MAX_SIDE} points a side")
    return GridSource(side)
