"""What a followed thing looks like, and how similar to it masks and places of a frame are."""

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.masks.selection import mask_corners
from aopsam_ros.prompting.features import FeatureMap, unit_length
from aopsam_ros.segmentation.segmenter import FrameEmbedding, Segmenter

NEWEST = 0.1  # weight of the newest mask in a thing's mean feature


class Appearance:
    """A thing's mean feature in the first image, and that of recent frames, unit length.

    Features are those of the frame without the first image's mean, which all things there share.
    """

    def __init__(
        self, segmenter: Segmenter, frame: FrameEmbedding, mask: NDArray[np.bool_]
    ) -> None:
        """Learn a thing from its mask `[1, rows, columns]` in the first image; see `features`."""
        found = _map_of(segmenter, frame)
        rows, columns = frame.geometry.valid_cells(found.shape[-1])
        self._scene = found[..., :rows, :columns].mean(axis=(2, 3), keepdims=True)
        side = segmenter.bundle.low_res_mask_size
        self._first = self._mean = pool(self.features(segmenter, frame), mask, side)[0]

    def features(self, segmenter: Segmenter, frame: FrameEmbedding) -> FeatureMap:
        """Return the features of a frame, the segmenter's last one.

        Raises:
            InferenceError: if a graph fails.
        """
        found = _map_of(segmenter, frame) - self._scene
        return FeatureMap(found, frame.geometry, found.shape[1])

    def similarity(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the cosine of each feature, unit length `[n, C]`, and the thing's nearer one."""
        return np.maximum(features @ self._first, features @ self._mean)

    def similarity_map(self, features: FeatureMap) -> NDArray[np.float32]:
        """Return how similar to the thing each place is, `[rows, columns]`; 0: not at all."""
        similar = self.similarity(features.unit).reshape(features.rows, features.columns)
        return np.maximum(similar, 0.0)

    def learn(self, feature: NDArray[np.float32]) -> None:
        """Take the feature of the newest mask, `[C]`, into the mean."""
        self._mean = unit_length(((1 - NEWEST) * self._mean + NEWEST * feature)[None])[0]


def pool(features: FeatureMap, masks: NDArray[np.bool_], side: int) -> NDArray[np.float32]:
    """Return the mean feature of each mask `[n, rows, columns]`, unit length `[n, C]`.

    `side` is that of the padded square which the masks are the valid part of.
    """
    corners = mask_corners(masks)
    centres = (corners[:, :2] + corners[:, 2:]) / 2 - 0.5
    return features.pool(masks, features.geometry.cells_to_source(centres, side), side)


def _map_of(segmenter: Segmenter, frame: FrameEmbedding) -> NDArray[np.float32]:
    """Return what things look like, `[1, C, S, S]`: semantic features, else the embedding's."""
    semantic = segmenter.engine.semantic_map(frame.handle)
    if semantic is not None:
        return semantic
    embedding = segmenter.engine.embedding(frame.handle)
    return embedding[:, : segmenter.bundle.similarity_channels]
