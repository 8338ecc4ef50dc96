"""Labels for the masks of a frame, and examples taken from one."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.bundle.loading import ENCODER, LABELLER
from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.errors import BundleError, InputError
from aopsam_ros.labels.composing import compose
from aopsam_ros.labels.label_set import (
    LABELS_FILE,
    TEXT_SUFFIX,
    LabelOptions,
    LabelSet,
    load_label_set,
    load_text_embeddings,
)
from aopsam_ros.labels.pooling import crop_images, pool_masks
from aopsam_ros.masks.iou import Crop, crop_of
from aopsam_ros.prompting.features import FeatureMap, unit_length
from aopsam_ros.results import InstanceMask, Segmentation
from aopsam_ros.segmentation.segmenter import FrameEmbedding, Segmenter

SEMANTIC_MODEL = "nano"  # whose semantic map stands in for a bundle's that has none
_PROBE = np.zeros((32, 32, 3), np.uint8)
_BATCH = 32  # masks that a labeller takes at once

_LOGGER = logging.getLogger(__name__)


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


class Labeller:
    """A label set in use: masks get its labels, and it learns from examples.

    Several threads may use it where the segmenter allows that.

    Attributes:
        labels: the label set; replaced when an example is added.
    """

    def __init__(
        self, encoder: SemanticEncoder, folder: Path | None = None, names: Sequence[str] = ()
    ) -> None:
        """Take over the encoder, and read the label set of a folder; a new folder begins empty.

        Args:
            encoder: of the features.
            folder: where the set is read and kept, or a file of text embeddings; None: the set
                lives as long as this object.
            names: the labels of it to use; none: all.

        Raises:
            InputError: if the set cannot be read, was made with another encoder, or lacks a name.
        """
        self._encoder, self._folder = encoder, folder
        self._lock = threading.Lock()
        self.labels = LabelSet.empty(encoder.identity)
        self._is_fixed = bool(names) or (folder is not None and folder.suffix == TEXT_SUFFIX)
        if self._is_fixed:
            self.labels = self._fixed_labels(names)
            return
        if folder is None:
            return
        if (folder / LABELS_FILE).exists():
            self.labels = checked_features(load_label_set(folder), encoder, folder)
        elif folder.exists() or not folder.parent.is_dir():
            raise InputError(f"{folder}: not a label set, it has no {LABELS_FILE}")
        else:
            _LOGGER.warning("%s: a new label set begins, without labels", folder)

    def _fixed_labels(self, names: Sequence[str]) -> LabelSet:
        """Return labels that `teach` adds nothing to."""
        folder = self._folder
        if folder is None:
            raise InputError("names of labels need a label set, or text embeddings, to be found in")
        is_text = folder.suffix == TEXT_SUFFIX
        labels = load_text_embeddings(folder) if is_text else load_label_set(folder)
        if is_text:
            labels = replace(labels, features=self._encoder.identity)
        return checked_features(labels, self._encoder, folder).only(names)

    def label(
        self,
        rgb: NDArray[np.uint8],
        frame: FrameEmbedding,
        segmentation: Segmentation,
        options: LabelOptions,
        depths_of: Callable[[Segmentation], NDArray[np.float32] | None] = lambda _: None,
    ) -> Segmentation:
        """Give each mask the nearest label, or none.

        Args:
            rgb: the image, uint8 `[H, W, 3]`.
            frame: its embedding, the segmenter's last one.
            segmentation: what was found in it.
            options: thresholds, and whether masks are united.
            depths_of: gives the masks' depths, see `compose`; only called where masks are united.

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
        if not options.merge:
            return labelled
        depths = depths_of(labelled) if options.depth_tolerance else None
        return compose(labelled, pooled, depths, options.depth_tolerance)

    def pool(
        self, rgb: NDArray[np.uint8], frame: FrameEmbedding, masks: Sequence[InstanceMask]
    ) -> NDArray[np.float32]:
        """Return the masks' mean features, of unit length, float32 `[n, D]`; see `label`."""
        return self._encoder.features(rgb, frame, [crop_of(mask) for mask in masks])

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
            InputError: if the name is not 1 to 64 printable characters, or the set cannot be kept
                or is one of text embeddings, or of chosen names.
            InferenceError: if a graph fails.
        """
        if self._is_fixed:
            raise InputError(
                "labels of text embeddings, or of chosen names, take no examples: leave "
                "labels.names empty, and let labels.file be a folder"
            )
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


def open_labeller(
    segmenter: Segmenter, engine: EngineOptions, folder: Path | None, names: Sequence[str] = ()
) -> Labeller:
    """Return a labeller for the masks of a segmenter, which no other thread may use meanwhile.

    Args:
        segmenter: whose model says what masks show; see `SemanticEncoder`.
        engine: that runs `nano`.
        folder: see `Labeller`.
        names: see `Labeller`.

    Raises:
        InputError: if the label set cannot be read, or was made with another encoder.
        BundleError, EngineError, InferenceError: if the features cannot be had.
    """
    encoder = SemanticEncoder(segmenter, engine)
    try:
        return Labeller(encoder, folder, names)
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
