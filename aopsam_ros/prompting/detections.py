"""Object-aware sampling: a detector's boxes as prompts."""

from aopsam_ros.errors import InputError
from aopsam_ros.prompting.boxes import Boxes
from aopsam_ros.prompting.prompts import FrameInput, PromptSet, PromptSource


class BoxSource(PromptSource):
    """Each box that has a part inside the image, as a box prompt: the best mask for each."""

    name = defaults_group = "boxes"
    needs_boxes = True
    mask_options = {"mask.candidates": "best"}  # noqa: RUF012  (a box says which mask is meant)

    def propose(self, frame: FrameInput) -> PromptSet:
        """See `PromptSource`."""
        boxes = self._inside(frame)
        return PromptSet(boxes.centres(frame.geometry), boxes.confidence, boxes.corners)

    def _inside(self, frame: FrameInput) -> Boxes:
        if frame.boxes is None:
            raise InputError(f"the prompt source '{self.name}' needs boxes with every frame")
        return frame.boxes.inside(frame.geometry)


class BoxCentreSource(BoxSource):
    """The centre of each box that has a part inside the image, as a point prompt."""

    name = defaults_group = "box_centres"
    mask_options = {}  # noqa: RUF012

    def propose(self, frame: FrameInput) -> PromptSet:
        """See `PromptSource`."""
        boxes = self._inside(frame)
        return PromptSet(boxes.centres(frame.geometry), boxes.confidence)
