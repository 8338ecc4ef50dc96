"""Object-aware sampling: a detector's boxes as prompts."""

from collections.abc import Mapping

import numpy as np

from aopsam_ros.errors import InputError
from aopsam_ros.geometry import FrameGeometry
from aopsam_ros.prompting.boxes import Boxes
from aopsam_ros.prompting.grid import spread_order
from aopsam_ros.prompting.prompts import ALL_PROMPTS, FrameInput, PromptSet, PromptSource


class BoxSource(PromptSource):
    """Each box that has a part inside the image, as a box prompt: the best mask for each."""

    name = defaults_group = "boxes"
    needs_boxes = True
    own_options: tuple[str, ...] = ("boxes.",)
    # A box says which mask is meant.
    defaults: Mapping[str, object] = {**ALL_PROMPTS, "mask.candidates": "best"}

    def propose(self, frame: FrameInput) -> PromptSet:
        """See `PromptSource`."""
        boxes = self._inside(frame)
        return PromptSet(boxes.centres(frame.geometry), boxes.confidence, boxes.corners, "box")

    def _inside(self, frame: FrameInput) -> Boxes:
        if frame.boxes is None:
            raise InputError(f"the prompt source '{self.name}' needs boxes with every frame")
        return _spread_equals(frame.boxes.inside(frame.geometry), frame.geometry)


class BoxCentreSource(BoxSource):
    """The centre of each box that has a part inside the image, as a point prompt."""

    name = defaults_group = "box_centres"
    defaults = ALL_PROMPTS
    own_options = ("mask.refine",)

    def propose(self, frame: FrameInput) -> PromptSet:
        """See `PromptSource`."""
        boxes = self._inside(frame)
        return PromptSet(boxes.centres(frame.geometry), boxes.confidence)


def _spread_equals(boxes: Boxes, geometry: FrameGeometry) -> Boxes:
    """Order boxes of equal confidence so that the first, however many, are spread over the image.

    What is to be covered are the boxes themselves: nothing is gained near places that have none.
    `boxes` are best first, as those returned.
    """
    if len(np.unique(boxes.confidence)) == len(boxes):
        return boxes
    centres = boxes.centres(geometry) / (geometry.width, geometry.height)
    spread = spread_order(centres, centres, geometry.height, geometry.width)
    order = spread[np.argsort(-boxes.confidence[spread], kind="stable")]
    return Boxes(boxes.corners[order], boxes.confidence[order])
