"""What masks show, as numbers: features of a model's labeller or of a semantic map."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.bundle.loading import ENCODER, LABELLER
from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.errors import BundleError
from aopsam_ros.labels.pooling import crop_images, pool_masks
from aopsam_ros.masks.iou import Crop, crop_of
from aopsam_ros.prompting.features import FeatureMap, unit_length
from aopsam_ros.segmentation.segmenter import FrameEmbedding, Segmenter

SEMANTIC_MODEL = "nano"  # whose semantic map stands in for a bundle's that has none
_PROBE = np.zeros((32, 32, 3), np.uint8)
_BATCH = 32  # masks that a labeller takes at once


class SemanticEncoder:
    """What things are: by a model's labeller, its semantic map, or `nano`'s where it has neither.

    Attributes:
        identity: which graph's features these are: model, version, and the graph's hash.
        size: D, how many numbers a feature has.
    """

    def __init__(self, segmenter: Segmenter, engine: EngineOptions) -> None:
        """Find out what the model has; no other thread may use it meanwhile.

        Raises:
            BundleError: if the labeller takes no features of the model's size.
            BundleError, EngineError: if a graph or `nano` is needed and cannot be loaded.
            InferenceError: if a graph fails.
        """
        frame = segmenter.encode(_PROBE)
        self._segmenter = segmenter
        self._own: Segmenter | None = None
        self._labeller = labeller = segmenter.bundle.labeller
        semantic_map = segmenter.engine.semantic_map(frame.handle)
        if labeller is None and semantic_map is None:
            if segmenter.engine.name == "tensorrt":  # would build plans: minutes without masks
                engine = replace(engine, engine="onnxruntime")
            self._segmenter = self._own = Segmenter.from_bundle(SEMANTIC_MODEL, "grid1", engine)
        elif labeller is not None and labeller.takes == "features":
            given = 0 if semantic_map is None else semantic_map.shape[1]
            if given != labeller.input_size:
                raise BundleError(
                    f"{segmenter.bundle.folder}: {LABELLER} takes features of "
                    f"{labeller.input_size} numbers, {ENCODER} gives {given or 'none'}"
                )
        bundle = self._segmenter.bundle
        digest = bundle.graphs[ENCODER if labeller is None else LABELLER].sha256[:12]
        self.identity = f"{bundle.name} {bundle.version} {digest}"
        whole = crop_of(np.ones(_PROBE.shape[:2], np.bool_))
        self.size = self.features(_PROBE, frame, [whole]).shape[1]

    def features(
        self, rgb: NDArray[np.uint8], frame: FrameEmbedding, masks: Sequence[Crop]
    ) -> NDArray[np.float32]:
        """Return masks' features, of unit length, float32 `[n, D]`.

        Args:
            rgb: the image, uint8 `[H, W, 3]`.
            frame: its embedding by the model.
            masks: in it.

        Raises:
            InferenceError: if a graph fails.
        """
        labeller = self._labeller
        if labeller is None:
            return pool_masks(masks, self._semantic_map(rgb, frame))
        found = np.empty((len(masks), labeller.embedding_size), np.float32)
        for first in range(0, len(masks), _BATCH):
            some = masks[first : first + _BATCH]
            inputs = (
                crop_images(rgb, some, labeller.input_size)
                if labeller.takes == "crops"
                else pool_masks(some, self._semantic_map(rgb, frame))
            )
            found[first : first + _BATCH] = self._segmenter.engine.embed_masks(inputs)
        return unit_length(found)

    def _semantic_map(self, rgb: NDArray[np.uint8], frame: FrameEmbedding) -> FeatureMap:
        segmenter = self._segmenter
        if self._own is not None:
            frame = self._own.encode(rgb)
        found = segmenter.engine.semantic_map(frame.handle)
        assert found is not None  # of this model, by `__init__`
        return FeatureMap(found, frame.geometry, found.shape[1])

    def close(self) -> None:
        """Free the model, where it is one of its own."""
        if self._own is not None:
            self._own.close()
