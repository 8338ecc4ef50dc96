"""What a frame of a stream takes over from the frame before it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.preprocessing import FrameGeometry
from aopsam_ros.prompting.prompts import PromptSet, point_prompts


@dataclass(frozen=True)
class Earlier:
    """Prompts that gave masks in the frame before, and where the picture is another one since.

    `points` float64 `[N, 2]` in source pixels, best first, and their `confidence` float32 `[N]`;
    `changed` bool `[rows, columns]`, any number of cells over the image.
    """

    points: NDArray[np.float64]
    confidence: NDArray[np.float32]
    changed: NDArray[np.bool_]

    @property
    def suffices(self) -> bool:
        """Whether there is no place to look for new prompts in."""
        return not self.changed.any()

    def prompts(self) -> PromptSet:
        """Return the earlier prompts; filtering leaves them alone."""
        return point_prompts(self.points, self.confidence, certain=len(self.points))

    def joined(self, proposed: PromptSet, geometry: FrameGeometry) -> PromptSet:
        """Return the earlier prompts, then those of the proposed points that lie in a change."""
        rows, columns = self.changed.shape
        scale = [columns / geometry.width, rows / geometry.height]
        cells = ((proposed.anchors + 0.5) * scale).astype(np.int64)
        x, y = np.minimum(cells, [columns - 1, rows - 1]).T
        new = self.changed[y, x]
        return point_prompts(
            np.concatenate((self.points, proposed.anchors[new])),
            np.concatenate((self.confidence, proposed.confidence[new])),
            certain=len(self.points),
        )
