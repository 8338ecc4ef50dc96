"""The prompt sources by name.

A new source is one more class here and one more line in `make_source`; how it finds its prompts has
a module of its own beside this one. What "auto" stands for is decided in `choosing`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from aopsam_ros.errors import InputError, OptionError
from aopsam_ros.options import SegmenterOptions
from aopsam_ros.prompting.boxes import Boxes
from aopsam_ros.prompting.clusters import cluster_points
from aopsam_ros.prompting.grid import MAX_SIDE, grid_points
from aopsam_ros.prompting.prompts import (
    FrameInput,
    PromptSet,
    PromptSource,
    box_prompts,
    point_prompts,
)
from aopsam_ros.prompting.sampling import sample

KNOWN = "predictor, boxes, box_centres, clusters, grid16, grid32, gridN"


@dataclass(frozen=True)
class _Source:
    """What most sources have in common: nothing is needed, everything is decoded."""

    needs_confidence_map = False
    needs_features = False
    needs_boxes = False
    adaptive = False

    @property
    def mask_options(self) -> dict[str, object]:
        """None of its own."""
        return {}

    def crop_layers(self, options: SegmenterOptions) -> int:  # noqa: ARG002
        """No crops."""
        return 0


@dataclass(frozen=True)
class PredictorSource(_Source):
    """AoP-SAM: local maxima of the prompt confidence map."""

    name: str = "predictor"
    defaults_group: str = ""  # the bundle's mask options are meant for this source
    needs_confidence_map = True
    adaptive = True

    def propose(self, frame: FrameInput) -> PromptSet:
        """Sample the part of the map that shows the image."""
        confidence_map = frame.confidence_map
        if confidence_map is None:
            raise OptionError("the prompt source 'predictor' needs a confidence map")
        rows, columns = frame.geometry.valid_cells(len(confidence_map))
        asf = frame.options.asf
        cells, confidence = sample(
            confidence_map[:rows, :columns],
            asf.smoothing_sigma,
            asf.confidence_threshold,
            asf.min_spacing,
            fill=asf.sampling == "fill",
        )
        points = frame.geometry.cells_to_source(cells[:, ::-1], len(confidence_map))
        return point_prompts(points, confidence)


@dataclass(frozen=True)
class GridSource(_Source):
    """SAM's automatic mask generator: every point of a grid, all three masks, box suppression."""

    side: int
    defaults_group: str = "grid"

    @property
    def name(self) -> str:
        """Return grid16, grid32, ..."""
        return f"grid{self.side}"

    @property
    def mask_options(self) -> dict[str, object]:
        """All three masks of a point compete, by box IoU, as in SAM's generator."""
        return {"mask.candidates": "all", "mask.combine": "box_nms"}

    def crop_layers(self, options: SegmenterOptions) -> int:
        """As many as asked for: small things get a grid of their own."""
        return options.grid.crop_layers

    def propose(self, frame: FrameInput) -> PromptSet:
        """Lay the grid over the image; every point has confidence 1."""
        points = grid_points(self.side, frame.geometry.height, frame.geometry.width)
        return point_prompts(points, np.ones(len(points), np.float32))


@dataclass(frozen=True)
class BoxSource(_Source):
    """Object-aware sampling: a detector's boxes as box prompts, the best mask for each."""

    name: str = "boxes"
    defaults_group: str = "boxes"
    needs_boxes = True

    @property
    def mask_options(self) -> dict[str, object]:
        """A box says what is meant: no three masks compete."""
        return {"mask.candidates": "best"}

    def propose(self, frame: FrameInput) -> PromptSet:
        """Take each box that has a part inside the image."""
        boxes = _boxes(frame, self.name)
        return box_prompts(boxes, boxes.centres(frame.geometry))


@dataclass(frozen=True)
class BoxCentreSource(_Source):
    """Object-aware sampling: the centres of a detector's boxes as point prompts."""

    name: str = "box_centres"
    defaults_group: str = "box_centres"
    needs_boxes = True

    def propose(self, frame: FrameInput) -> PromptSet:
        """Take the centre of each box that has a part inside the image."""
        boxes = _boxes(frame, self.name)
        return point_prompts(boxes.centres(frame.geometry), boxes.confidence)


@dataclass(frozen=True)
class ClusterSource(_Source):
    """Efficient SAM2: the medoids of clusters of features; its masks are merged, not suppressed."""

    name: str = "clusters"
    defaults_group: str = "clusters"
    needs_features = True

    @property
    def mask_options(self) -> dict[str, object]:
        """Merge the masks that lie in one another."""
        return {"mask.combine": "merge"}

    def propose(self, frame: FrameInput) -> PromptSet:
        """Cluster the features of the frame."""
        if frame.features is None:
            raise OptionError("the prompt source 'clusters' needs the features")
        points, alike = cluster_points(frame.features, frame.geometry, frame.options.clusters)
        return point_prompts(points, alike)


def make_source(name: str) -> PromptSource:
    """Return the source of a name; "auto" is none before it is resolved.

    Raises:
        OptionError: unknown name, or a grid of no or too many points.
    """
    named: tuple[PromptSource, ...] = (
        PredictorSource(),
        BoxSource(),
        BoxCentreSource(),
        ClusterSource(),
    )
    for source in named:
        if source.name == name:
            return source
    match = re.fullmatch(r"grid([0-9]{1,4})", name)
    if match is None:
        raise OptionError(f"unknown prompt source '{name}'; known: auto, {KNOWN}")
    side = int(match.group(1))
    if not 1 <= side <= MAX_SIDE:
        raise OptionError(f"prompt source '{name}': a grid has 1 to {MAX_SIDE} points a side")
    return GridSource(side)


def _boxes(frame: FrameInput, name: str) -> Boxes:
    if frame.boxes is None:
        raise InputError(f"the prompt source '{name}' needs boxes with every frame")
    return frame.boxes.inside(frame.geometry)
