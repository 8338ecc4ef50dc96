"""Labels for the masks of a frame, and examples taken from one."""

import contextlib
import logging
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.errors import InputError
from aopsam_ros.labels.label_files import (
    LABELS_FILE,
    TEXT_SUFFIX,
    holds_label_set,
    load_label_set,
    load_text_embeddings,
    locked,
    save_label_set,
)
from aopsam_ros.labels.label_set import LabelOptions, LabelSet
from aopsam_ros.labels.semantic_encoder import Pause, SemanticEncoder
from aopsam_ros.options import SegmenterOptions
from aopsam_ros.results import InstanceMask, Segmentation
from aopsam_ros.segmentation.segmenter import FrameEmbedding, Segmenter

_LOGGER = logging.getLogger(__name__)


class Labeller:
    """A label set in use: masks get its labels, and it learns from examples.

    Several threads may use it where the segmenter allows that.

    Attributes:
        labels: the label set; replaced when an example is added.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        engine: EngineOptions,
        folder: Path | None = None,
        names: Sequence[str] = (),
        pause: Pause = contextlib.nullcontext,
    ) -> None:
        """Read a label set for the masks of a segmenter, which no other thread may use.

        Args:
            segmenter: whose model says what masks show; see `SemanticEncoder`.
            engine: that runs `nano` where it is needed.
            folder: where the set is read and kept, a new one begins empty; or a file of text
                embeddings; None: the set lives as long as this object.
            names: the labels of it to use; none: all.
            pause: entered while `nano` is loaded: other threads may use the segmenter then.

        Raises:
            InputError: if the set cannot be read, was made with another encoder, or lacks a name.
            BundleError, EngineError, InferenceError: if the features cannot be had.
        """
        self._folder, self._lock = folder, threading.Lock()
        self._is_fixed = bool(names) or (folder is not None and folder.suffix == TEXT_SUFFIX)
        self._encoder = SemanticEncoder(segmenter, engine, pause)
        try:
            with self._alone():
                self.labels = _read(folder, names, self._encoder)
        except BaseException:
            self._encoder.close()
            raise

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
            options: thresholds.

        Raises:
            InferenceError: if a graph fails.
        """
        labels = self.labels
        if not labels.names or not segmentation.masks:
            return segmentation
        found = labels.nearest(self._encoder.features(rgb, frame, segmentation.masks), options)
        masks = tuple(
            replace(mask, label=name, label_score=score)
            for mask, (name, score) in zip(segmentation.masks, found, strict=True)
        )
        return replace(segmentation, masks=masks)

    def teach(
        self,
        name: str,
        rgb: NDArray[np.uint8],
        mask: InstanceMask,
        options: SegmenterOptions | None = None,
    ) -> int:
        """Take a mask as an example of a label, and keep the set in its folder.

        Args:
            name: of the label; a new one is added.
            rgb: the image, uint8 `[H, W, 3]`; it is encoded.
            mask: the example.
            options: that images are encoded with; the segmenter's own where None.

        Returns:
            how many examples the label has now.

        Raises:
            InputError: if the name is not 1 to 64 printable characters, or the set cannot be kept,
                is another model's by now, or is one of text embeddings, or of chosen names.
            InferenceError: if a graph fails.
        """
        if self._is_fixed:
            raise InputError(
                "labels of text embeddings, or of chosen names, take no examples: leave "
                "labels.names empty, and let labels.file be a folder"
            )
        example = self._encoder.example(rgb, mask, options)
        with self._lock, self._alone():
            known = self.labels
            if self._folder is not None and holds_label_set(self._folder):
                known = _read(self._folder, (), self._encoder)  # others may have added to it
            labels = known.added(name, example)
            if self._folder is not None:
                try:
                    save_label_set(labels, self._folder)
                except OSError as error:
                    raise InputError(f"{self._folder}: cannot be written: {error}") from None
            self.labels = labels
        return labels.count(name.strip())

    def _alone(self) -> contextlib.AbstractContextManager[None]:
        """Keep other nodes from changing the set meanwhile."""
        return contextlib.nullcontext() if self._folder is None else locked(self._folder)

    def close(self) -> None:
        """Free the encoder."""
        self._encoder.close()


def _read(folder: Path | None, names: Sequence[str], encoder: SemanticEncoder) -> LabelSet:
    """Return the label set of a folder, or of text embeddings; see `Labeller`."""
    empty = LabelSet.empty(encoder.identity)
    if folder is None:
        if names:
            raise InputError("names of labels need a label set, or text embeddings, to be found in")
        return empty
    if folder.suffix == TEXT_SUFFIX:
        labels = replace(load_text_embeddings(folder), features=encoder.identity)
    elif holds_label_set(folder):
        labels = load_label_set(folder)
    elif names or (folder.exists() and not _is_empty(folder)):
        raise InputError(f"{folder}: not a label set, it has no {LABELS_FILE}")
    elif not folder.parent.is_dir():
        raise InputError(f"{folder}: there is no folder {folder.parent} for a new label set")
    else:
        _LOGGER.warning("%s: a new label set begins, without labels", folder)
        return empty
    if not labels.names:
        return empty.only(names)
    if labels.features != encoder.identity:
        raise InputError(
            f"{folder}: made with the features of {labels.features}, but the model has those of "
            f"{encoder.identity}; make it again with `aopsam labels`, or teach anew"
        )
    if len(labels.prototypes) and labels.prototypes.shape[1] != encoder.size:
        raise InputError(
            f"{folder}: prototypes of {labels.prototypes.shape[1]} numbers, not {encoder.size}; "
            "text embeddings need a model with a labeller of their size"
        )
    return labels.only(names)


def _is_empty(folder: Path) -> bool:
    """Tell an empty folder; one that cannot be listed is none."""
    with contextlib.suppress(OSError):
        return folder.is_dir() and not any(folder.iterdir())
    return False
