"""A detector's boxes, as the prompt sources `boxes` and `box_centres` take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.errors import InputError
from aopsam_ros.geometry import FrameGeometry
from aopsam_ros.results import Segmentation


@dataclass(frozen=True)
class Boxes:
    """N boxes of one frame.

    `corners` float64 `[N, 4]`: left, top, right, bottom in source pixels, measured at the pixels'
    edges, so that a whole image is 0, 0, width, height; `confidence` float32 `[N]` in 0-1.

    Raises:
        InputError: if the shapes do not fit together or a number is not finite.
    """

    corners: NDArray[np.float64]
    confidence: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.corners.shape != (len(self.confidence), 4) or self.confidence.ndim != 1:
            raise InputError(
                "boxes must be corners [N, 4] and confidences [N], not "
                f"{list(self.corners.shape)} and {list(self.confidence.shape)}"
            )
        if not (np.isfinite(self.corners).all() and np.isfinite(self.confidence).all()):
            raise InputError("a box has a number that is not finite")

    def __len__(self) -> int:
        return len(self.corners)

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[float]]) -> Boxes:
        """Make boxes of rows `left, top, right, bottom[, confidence[, ...]]`.

        Where the confidence is missing it is 1; what follows it, such as a class, is left out.

        Raises:
            InputError: if a row has fewer than four numbers, or something that is no number.
        """
        try:
            corners = [[float(value) for value in row[:4]] for row in rows]
            confidence = [float(row[4]) if len(row) > 4 else 1.0 for row in rows]
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(f"a box must be a list of numbers ({error})") from None
        if any(len(row) != 4 for row in corners):
            raise InputError("a box must be left, top, right, bottom and a confidence")
        return cls(np.array(corners).reshape(-1, 4), np.array(confidence, np.float32))

    def inside(self, geometry: FrameGeometry) -> Boxes:
        """Cut the boxes at the image's edges, best first; those with nothing left are dropped."""
        size = [geometry.width, geometry.height]
        cut = np.clip(self.corners, 0.0, size * 2)
        order = np.argsort(-self.confidence, kind="stable")
        filled = (cut[order, 2] > cut[order, 0]) & (cut[order, 3] > cut[order, 1])
        chosen = order[filled]
        return Boxes(cut[chosen], np.clip(self.confidence[chosen], 0.0, 1.0))

    def centres(self, image: FrameGeometry | Segmentation) -> NDArray[np.float64]:
        """Return each box's centre, x and y as pixel indices inside the image, `[N, 2]`."""
        # Corners lie on edges, indices on centres: half a pixel between the two.
        centres = (self.corners[:, :2] + self.corners[:, 2:]) / 2 - 0.5
        last = [image.width - 1.0, image.height - 1.0]
        return np.asarray(np.clip(centres, 0.0, last), np.float64)
