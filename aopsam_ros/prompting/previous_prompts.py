"""What a frame of a stream takes over from the frame before it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.geometry import FrameGeometry
from aopsam_ros.options import AsfOptions
from aopsam_ros.prompting.confidence_map_sampling import find_duplicates
from aopsam_ros.prompting.prompts import PromptSet


@dataclass(frozen=True)
class PreviousPrompts:
    """Prompts of the frame before, and where the image has changed since."""

    # float64 `[N, 2]` in source pixels: first those that gave masks, best first, then those that
    # were not decoded for want of time
    points: NDArray[np.float64]
    confidence: NDArray[np.float32]  # float32 `[N]`
    num_protected: int  # how many of the first gave masks
    changed: NDArray[np.bool_]  # bool `[rows, columns]`, any number of cells over the image
    boxes: NDArray[np.float64] | None = None  # float64 `[N, 4]`, as those of a `PromptSet`

    @property
    def covers_frame(self) -> bool:
        """Whether nothing has changed, so that no new prompts are needed."""
        return not self.changed.any()

    def prompts(self, asf: AsfOptions) -> PromptSet:
        """Return these prompts; filtering drops none of those that gave masks."""
        return _prompt_set(self.points, self.confidence, self.boxes, self.num_protected, asf)

    def merge(self, proposed: PromptSet, geometry: FrameGeometry, asf: AsfOptions) -> PromptSet:
        """Return the prompts that gave masks, then the others, best first.

        Those are the proposed ones where the image changed and, elsewhere, the previous ones that
        were not decoded.
        """
        protected = self.num_protected
        new = self._in_change(proposed.points, geometry)
        kept = ~self._in_change(self.points, geometry)
        kept[:protected] = True
        points = np.concatenate((self.points[kept], proposed.points[new]))
        confidence = np.concatenate((self.confidence[kept], proposed.confidence[new]))
        others = protected + np.argsort(-confidence[protected:], kind="stable")
        order = np.concatenate((np.arange(protected), others))
        boxes = None
        if self.boxes is not None and proposed.boxes is not None:
            boxes = np.concatenate((self.boxes[kept], proposed.boxes[new]))[order]
        return _prompt_set(points[order], confidence[order], boxes, protected, asf)

    def _in_change(self, points: NDArray[np.float64], geometry: FrameGeometry) -> NDArray[np.bool_]:
        rows, columns = self.changed.shape
        scale = [columns / geometry.width, rows / geometry.height]
        cells = ((points + 0.5) * scale).astype(np.int64)
        x, y = np.minimum(cells, [columns - 1, rows - 1]).T
        return self.changed[y, x]


def _prompt_set(
    points: NDArray[np.float64],
    confidence: NDArray[np.float32],
    boxes: NDArray[np.float64] | None,
    num_protected: int,
    asf: AsfOptions,
) -> PromptSet:
    """Return prompts of which the first are never dropped, as a sampled PCM's are."""
    if boxes is None:
        return PromptSet(points, confidence, num_protected=num_protected)
    duplicate = find_duplicates(boxes, asf.extent_overlap, num_protected)
    return PromptSet(points, confidence, boxes, asf.prompt_form, duplicate, num_protected)
