"""Labels for the masks of a frame, and examples taken from one."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.bundle.loading import ENCODER
from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.errors import InputError
from aopsam_ros.labels.composing import compose
from aopsam_ros.labels.label_set import LABELS_FILE, LabelOptions, LabelSet, load_label_set
from aopsam_ros.labels.pooling import pool_masks
from aopsam_ros.masks.iou import crop_of
from aopsam_ros.prompting.features import FeatureMap
from aopsam_ros.results import InstanceMask, Segmentation
from aopsam_ros.segmentation.segmenter import FrameEmbedding, Segmenter

SEMANTIC_MODEL = "nano"  # whose semantic map stands in for a bundle's that has none
_PROBE = np.zeros((32, 32, 3), np.uint8)

_LOGGER = logging.getLogger(__name__)


class SemanticEncoder:
    """What things are: the semantic map of a model, or `nano`'s where it has none.

    Attributes:
        identity: which encoder's features these are: model, version, and the graph's hash.
        size: D, how many numbers a feature has.
    """

    def __init__(self, segmenter: Segmenter, engine: EngineOptions) -> None:
        """Find out whether the model has a semantic map; no other thread may use it meanwhile.

        Raises:
            BundleError, EngineError: if it has none and `nano` cannot be loaded.
            InferenceError: if a graph fails.
        """
        frame = segmenter.encode(_PROBE)
        self._segmenter = segmenter
        self._own: Segmenter | None = None
        if segmenter.engine.semantic_map(frame.handle) is None:
            self._segmenter = self._own = Segmenter.from_bundle(SEMANTIC_MODEL, "grid1", engine)
        bundle = self._segmenter.bundle
        digest = bundle.graphs[ENCODER].sha256[:12]
        self.identity = f"{bundle.name} {bundle.version} {digest}"
        self.size = self.features(_PROBE, frame).unit.shape[1]

    def features(self, rgb: NDArray[np.uint8], frame: FrameEmbedding) -> FeatureMap:
        """Return an image's semantic features; `frame` is its embedding by the model.

        Raises:
            InferenceError: if a graph fails.
        """
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


class Labeller:
    """A label set in use: masks get its labels, and it learns from examples.

    Several threads may use it where the segmenter allows that.

    Attributes:
        labels: the label set; replaced when an example is added.
    """

    def __init__(self, encoder: SemanticEncoder, folder: Path | None = None) -> None:
        """Take over the encoder, and read the label set of a folder; a new folder begins empty.

        Args:
            encoder: of the features.
            folder: where the set is read and kept; None: it lives as long as this object.

        Raises:
            InputError: if the set cannot be read, or was made with another encoder.
        """
        self._encoder, self._folder = encoder, folder
        self._lock = threading.Lock()
        self.labels = LabelSet.empty(encoder.identity)
        if folder is None:
            return
        if (folder / LABELS_FILE).exists():
            self.labels = checked_features(load_label_set(folder), encoder, folder)
        elif folder.exists() or not folder.parent.is_dir():
            raise InputError(f"{folder}: not a label set, it has no {LABELS_FILE}")
        else:
            _LOGGER.warning("%s: a new label set begins, without labels", folder)

    def label(
        self,
        rgb: NDArray[np.uint8],
        frame: FrameEmbedding,
        segmentation: Segmentation,
        options: LabelOptions,
    ) -> Segmentation:
        """Give each mask the nearest label, or none.

        Args:
            rgb: the image, uint8 `[H, W, 3]`.
            frame: its embedding, the segmenter's last one.
            segmentation: what was found in it.
            options: thresholds, and whether masks are united.

        Raises:
            InferenceError: if a graph fails.
        """
        labels = self.labels
        if not labels.names or not segmentation.masks:
            return segmentation
        pooled = self.pool(rgb, frame, segmentation.masks)
        found = labels.nearest(pooled, options)
        masks = tuple(
            replace(mask, label=name, label_score=score)
            for mask, (name, score) in zip(segmentation.masks, found, strict=True)
        )
        labelled = replace(segmentation, masks=masks)
        return compose(labelled, pooled) if options.merge else labelled

    def pool(
        self, rgb: NDArray[np.uint8], frame: FrameEmbedding, masks: Sequence[InstanceMask]
    ) -> NDArray[np.float32]:
        """Return the masks' mean features, of unit length, float32 `[n, D]`; see `label`."""
        return pool_masks([crop_of(mask) for mask in masks], self._encoder.features(rgb, frame))

    def teach(
        self, name: str, rgb: NDArray[np.uint8], frame: FrameEmbedding, mask: InstanceMask
    ) -> int:
        """Take a mask as an example of a label, and keep the set in its folder.

        Args:
            name: of the label; a new one is added.
            rgb: the image, uint8 `[H, W, 3]`.
            frame: its embedding, the segmenter's last one.
            mask: the example.

        Returns:
            how many examples the label has now.

        Raises:
            InputError: if the name is not 1 to 64 printable characters, or the set cannot be kept.
            InferenceError: if a graph fails.
        """
        example = self.pool(rgb, frame, [mask])
        with self._lock:
            labels = self.labels.added(name, example)
            if self._folder is not None:
                try:
                    labels.save(self._folder)
                except OSError as error:
                    raise InputError(f"{self._folder}: cannot be written: {error}") from None
            self.labels = labels
        return labels.count(name.strip())

    def close(self) -> None:
        """Free the encoder."""
        self._encoder.close()


def open_labeller(segmenter: Segmenter, engine: EngineOptions, folder: Path | None) -> Labeller:
    """Return a labeller for the masks of a segmenter, which no other thread may use meanwhile.

    Args:
        segmenter: its model's semantic map is taken, or `nano`'s where it has none.
        engine: that runs `nano`.
        folder: see `Labeller`.

    Raises:
        InputError: if the label set cannot be read, or was made with another encoder.
        BundleError, EngineError, InferenceError: if the semantic map cannot be had.
    """
    encoder = SemanticEncoder(segmenter, engine)
    try:
        return Labeller(encoder, folder)
    except BaseException:
        encoder.close()
        raise


def checked_features(labels: LabelSet, encoder: SemanticEncoder, folder: Path) -> LabelSet:
    """Return a label set that this encoder's features can be compared with.

    Raises:
        InputError: if another encoder made it, or its prototypes are of another size.
    """
    if not labels.names:
        return replace(labels, features=encoder.identity)
    if labels.features != encoder.identity:
        raise InputError(
            f"{folder}: made with the features of {labels.features}, but the model has those of "
            f"{encoder.identity}; make it again with `aopsam labels`, or teach anew"
        )
    if len(labels.prototypes) and labels.prototypes.shape[1] != encoder.size:
        raise InputError(
            f"{folder}: prototypes of {labels.prototypes.shape[1]} numbers, not {encoder.size}"
        )
    return labels
