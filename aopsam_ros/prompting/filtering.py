"""ASF, fine: masks of one batch decide which of the remaining prompts need no decoding.

The paper's rule compares features: each mask's mean feature against every pixel of the feature map
gives the Prompt Elimination Map (PEM), whose high values mean "looks like what is segmented
already" (AoP-SAM, adaptive filtering). The evidence is that of the batch just decoded; earlier
batches have already had their say on the prompts that remain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.preprocessing import FrameGeometry
from aopsam_ros.products import matmul


class FeatureMap:
    """The unit-length feature of every embedding pixel that shows the image."""

    def __init__(
        self, embedding: NDArray[np.float32], geometry: FrameGeometry, channels: int
    ) -> None:
        """Normalise the first `channels` of an embedding `[1, C, S', S']`, padding left out."""
        self.size = embedding.shape[-1]
        self.geometry = geometry
        self.rows, self.columns = geometry.valid_cells(self.size)
        valid = embedding[0, :channels, : self.rows, : self.columns]
        self.unit = _unit(valid.reshape(len(valid), -1).T)

    def nearest(self, points: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the pixel nearest to each source point `[n, 2]`, as flat index `[n]`."""
        cells = np.rint(self.geometry.to_cells(points, self.size)).astype(np.int64)
        x = np.clip(cells[:, 0], 0, self.columns - 1)
        y = np.clip(cells[:, 1], 0, self.rows - 1)
        return y * self.columns + x

    def pool(
        self, masks: NDArray[np.bool_], points: NDArray[np.float64], low_size: int
    ) -> NDArray[np.float32]:
        """Average the features inside each mask and give the means unit length.

        A feature pixel is inside when the mask covers half of it or more; a mask that is nowhere
        so large takes the pixel nearest to its prompt.

        Args:
            masks: bool `[n, rows, columns]` at low resolution, the part that shows the image.
            points: the masks' prompts, source pixels `[n, 2]`.
            low_size: side of the whole low-resolution square.

        Returns:
            float32 `[n, channels]`.
        """
        ratio = low_size / self.size
        down = _overlap(self.rows, masks.shape[1], ratio)
        across = _overlap(self.columns, masks.shape[2], ratio)
        share = down @ masks.astype(np.float32) @ across.T
        inside = (share >= 0.5).reshape(len(masks), -1)
        small = np.flatnonzero(~inside.any(axis=1))
        inside[small, self.nearest(points[small])] = True
        return _unit(matmul(inside.astype(np.float32), self.unit))

    def lookup(self, maps: NDArray[np.float32], points: NDArray[np.float64]) -> NDArray[np.float32]:
        """Read maps `[..., rows * columns]` at source points `[n, 2]`, bilinearly: `[..., n]`."""
        cells = self.geometry.to_cells(points, self.size)
        x, x1, fx = _neighbours(cells[:, 0], self.columns)
        y, y1, fy = _neighbours(cells[:, 1], self.rows)
        w = self.columns
        above = maps[..., y * w + x] * (1 - fx) + maps[..., y * w + x1] * fx
        below = maps[..., y1 * w + x] * (1 - fx) + maps[..., y1 * w + x1] * fx
        return np.asarray(above * (1 - fy) + below * fy, np.float32)


@dataclass(frozen=True)
class Evidence:
    """The kept masks of one batch, and the prompts still waiting.

    `masks` bool `[n, rows, columns]` at low resolution over the image, of a `low_size` square;
    `predicted_iou` `[n]`; `points` `[n, 2]` and `remaining` `[q, 2]` in source pixels.
    """

    features: FeatureMap | None
    geometry: FrameGeometry
    low_size: int
    masks: NDArray[np.bool_]
    predicted_iou: NDArray[np.float32]
    points: NDArray[np.float64]
    remaining: NDArray[np.float64]

    def similarity(self) -> tuple[FeatureMap, NDArray[np.float32]]:
        """Return the feature map and each mask's cosine with every pixel, `[n, pixels]`."""
        if self.features is None:
            raise ValueError("this rule needs the feature map")
        pooled = self.features.pool(self.masks, self.points, self.low_size)
        return self.features, matmul(pooled, self.features.unit.T)


def drop_by_mean_map(evidence: Evidence, k: float) -> NDArray[np.bool_]:
    """The paper's rule: the mean map C is the PEM; drop q where C(q) > k * mean(IoU_i * C(p_i))."""
    features, similarity = evidence.similarity()
    elimination_map = similarity.mean(axis=0)
    at_prompts = features.lookup(elimination_map, evidence.points)
    threshold = max(0.0, float(np.mean(evidence.predicted_iou * at_prompts)))
    return features.lookup(elimination_map, evidence.remaining) > k * threshold


def drop_by_any_map(evidence: Evidence, k: float) -> NDArray[np.bool_]:
    """The same test for each mask by itself: drop q where any C_i(q) > k * IoU_i * C_i(p_i).

    A mean over many masks dilutes each one's signal; the maximum does not.
    """
    features, similarity = evidence.similarity()
    own = features.lookup(similarity, evidence.points).diagonal()
    thresholds = np.maximum(0.0, evidence.predicted_iou * own)
    above = features.lookup(similarity, evidence.remaining) > k * thresholds[:, None]
    return np.asarray(above.any(axis=0), np.bool_)


def drop_inside(evidence: Evidence, k: float) -> NDArray[np.bool_]:  # noqa: ARG001
    """Drop prompts that already lie in a kept mask; `k` plays no part.

    Look-alikes elsewhere in the image, such as the next bottle of a row, stay.
    """
    rows, columns = evidence.masks.shape[1:]
    cells = np.rint(evidence.geometry.to_cells(evidence.remaining, evidence.low_size))
    x = np.clip(cells[:, 0].astype(np.int64), 0, columns - 1)
    y = np.clip(cells[:, 1].astype(np.int64), 0, rows - 1)
    return np.asarray(evidence.masks[:, y, x].any(axis=0), np.bool_)


def drop_any_map_inside(evidence: Evidence, k: float) -> NDArray[np.bool_]:
    """Drop only where both hold: looks like a kept mask, and lies in a kept mask."""
    return drop_by_any_map(evidence, k) & drop_inside(evidence, k)


@dataclass(frozen=True)
class Rule:
    """How `asf.filtering` drops prompts, and whether it needs the features on the host."""

    drop: Callable[[Evidence, float], NDArray[np.bool_]]
    needs_features: bool


# "none" has no rule.
RULES: dict[str, Rule] = {
    "paper": Rule(drop_by_mean_map, needs_features=True),
    "max": Rule(drop_by_any_map, needs_features=True),
    "inside": Rule(drop_inside, needs_features=False),
    "max_inside": Rule(drop_any_map_inside, needs_features=True),
}


def eliminated(rule: Rule, evidence: Evidence, k: float) -> NDArray[np.bool_]:
    """Return which of the remaining prompts the rule drops, bool `[q]`; none without masks."""
    if len(evidence.masks) == 0 or len(evidence.remaining) == 0:
        return np.zeros(len(evidence.remaining), np.bool_)
    return rule.drop(evidence, k)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give each row unit length; a zero row stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.ascontiguousarray(vectors / np.maximum(lengths, 1e-12), np.float32)


def _overlap(cells: int, pixels: int, ratio: float) -> NDArray[np.float32]:
    """Return the share of each cell of `ratio` pixels that each pixel fills, `[cells, pixels]`.

    A cell cut by the image's edge is measured by the part that is there.
    """
    start = np.arange(cells)[:, None] * ratio
    pixel = np.arange(pixels)[None, :]
    shared = np.minimum(start + ratio, pixel + 1) - np.maximum(start, pixel)
    shared = np.maximum(shared, 0.0)
    return np.asarray(shared / np.maximum(shared.sum(1, keepdims=True), 1e-12), np.float32)


def _neighbours(
    position: NDArray[np.float64], size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return the two pixels around each position, clamped, and the second one's share."""
    inside = np.clip(position, 0.0, size - 1.0)
    at = inside.astype(np.int64)
    return at, np.minimum(at + 1, size - 1), inside - at
