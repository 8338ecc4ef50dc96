"""What prompts are, and what a source of prompts may use to propose them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.geometry import FrameGeometry
from aopsam_ros.options import OPTIONS, SegmenterOptions
from aopsam_ros.prompting.boxes import Boxes
from aopsam_ros.prompting.features import FeatureMap

# Of a source that says itself how many prompts there are; a limit is for who sets one.
ALL_PROMPTS: Mapping[str, object] = {"asf.max_prompts": OPTIONS["asf.max_prompts"].maximum}


@dataclass(frozen=True)
class PromptSet:
    """N prompts, best first: foreground points, boxes, or both."""

    # float64 `[N, 2]`, x and y in source pixels; a box's centre. They stand for the prompts in
    # messages and in ASF filtering
    points: NDArray[np.float64]
    confidence: NDArray[np.float32]  # float32 `[N]` in 0-1
    # float64 `[N, 4]`, left, top, right, bottom in source pixels: a detector's, or the extents that
    # the predictor expects; None: there are none
    boxes: NDArray[np.float64] | None = None
    form: str = "point"  # what the decoder gets of each prompt: "point", "box" or "both"
    # bool `[N]`: prompts whose box agrees with a surer one's, eliminated before anything is decoded
    duplicate: NDArray[np.bool_] | None = None
    num_protected: int = 0  # so many of the first prompts are never dropped by filtering


@dataclass(frozen=True)
class FrameInput:
    """One frame as a prompt source gets it; what the source did not ask for may be None."""

    geometry: FrameGeometry  # of the frame
    options: SegmenterOptions  # of the frame
    # the PCM, float32 `[P, P]` over the padded square
    confidence_map: NDArray[np.float32] | None = None
    # float32 `[4, P, P]`, see `engines.base.Prediction`; None: the model has none
    extent_map: NDArray[np.float32] | None = None
    features: FeatureMap | None = None  # of the embedding
    boxes: Boxes | None = None  # a detector's, in source pixels


class PromptSource(ABC):
    """Proposes the prompts of a frame.

    Attributes:
        name: as users type it.
        defaults_group: group of the bundle's defaults with this source's own options.
        needs_confidence_map: the prompt predictor has to run.
        needs_features: the embedding has to come to the host.
        needs_boxes: a detector's boxes have to come with every frame.
        adaptive: ASF filtering applies; prompts are not eliminated otherwise.
        spread: where a time budget may end the frame, its prompts are decoded in turns from all
            over the image; the others' order does so by itself, or a detector gave it.
        croppable: the option `grid.crop_layers` applies: crops of the image are segmented as well.
        defaults: options that it has where nobody says otherwise.
        own_options: beginnings of the names of options that not every source uses, but this one.
    """

    name: str
    defaults_group: str
    needs_confidence_map = False
    needs_features = False
    needs_boxes = False
    adaptive = False
    spread = False
    croppable = False
    defaults: Mapping[str, object] = ALL_PROMPTS
    own_options: tuple[str, ...] = ()

    def takes(self, name: str) -> bool:
        """Return whether the source uses an option that not every source uses."""
        return name.startswith(self.own_options)

    @abstractmethod
    def propose(self, frame: FrameInput) -> PromptSet:
        """Return the prompts of a frame, best first.

        Raises:
            InputError: if boxes are needed and missing.
            OptionError: if the confidence map or the features are needed and missing.
        """
