"""What a frame of a stream takes over from the frame before it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.geometry import FrameGeometry
from aopsam_ros.prompting.prompts import PromptSet, point_prompts


@dataclass(frozen=True)
class Earlier:
    """Prompts of the frame before, and where the picture is another one since.

    `points` float64 `[N, 2]` in source pixels and their `confidence` float32 `[N]`: first the
    `certain` ones that gave masks, best first, then those there was no time for; `changed` bool
    `[rows, columns]`, any number of cells over the image.
    """

    points: NDArray[np.float64]
    confidence: NDArray[np.float32]
    certain: int
    changed: NDArray[np.bool_]

    @property
    def suffices(self) -> bool:
        """Whether there is no place to look for new prompts in."""
        return not self.changed.any()

    def prompts(self) -> PromptSet:
        """Return the earlier prompts; filtering leaves those alone that gave masks."""
        return point_prompts(self.points, self.confidence, self.certain)

    def joined(self, proposed: PromptSet, geometry: FrameGeometry) -> PromptSet:
        """Return the prompts that gave masks, then the best of all others.

        Those are the proposed ones where the picture changed, and where it did not, the earlier
        ones there was no time for.
        """
        new = self._in_change(proposed.anchors, geometry)
        kept = ~self._in_change(self.points, geometry)
        kept[: self.certain] = True
        points = np.concatenate((self.points[kept], proposed.anchors[new]))
        confidence = np.concatenate((self.confidence[kept], proposed.confidence[new]))
        others = self.certain + np.argsort(-confidence[self.certain :], kind="stable")
        order = np.concatenate((np.arange(self.certain), others))
        return point_prompts(points[order], confidence[order], self.certain)

    def _in_change(self, points: NDArray[np.float64], geometry: FrameGeometry) -> NDArray[np.bool_]:
        rows, columns = self.changed.shape
        scale = [columns / geometry.width, rows / geometry.height]
        cells = ((points + 0.5) * scale).astype(np.int64)
        x, y = np.minimum(cells, [columns - 1, rows - 1]).T
        return self.changed[y, x]
