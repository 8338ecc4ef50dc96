"""Images that nobody labelled, with a teacher's embeddings of them, made once."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from aopsam_ros.bundle.loading import ENCODER, Bundle
from aopsam_ros.data.datasets import least_fraction, split_by_group
from aopsam_ros.data.frames import FrameSource
from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.engines.engine import Engine
from aopsam_ros.engines.registry import create_engine
from aopsam_ros.errors import DatasetError, InputError
from aopsam_ros.geometry import preprocess, shrink
from aopsam_ros.images.files import read_rgb, write_rgb
from aopsam_ros.training.frozen_engine import embed
from aopsam_ros.training.loop import processes
from aopsam_ros.training.loop.loader import EndlessBatches
from aopsam_ros.training.prepared_images import (
    EmbeddingCache,
    PreparedImage,
    PreparedSet,
    content_key,
)

_LOGGER = logging.getLogger(__name__)
FRAMES, EMBEDDINGS = "frames", "embeddings"  # folders of a run


class Teacher:
    """A bundle whose encoder is imitated; its engine is loaded when it is first needed."""

    def __init__(self, bundle: Bundle, engine: EngineOptions) -> None:
        # Never the encoder in 8 bits, whose embeddings are rounded.
        self.bundle, self._options = replace(bundle, int8_graphs={}), engine

    @functools.cached_property
    def engine(self) -> Engine:
        """Return the engine."""
        return create_engine(self.bundle, self._options)

    def close(self) -> None:
        """Free the engine, if it was needed."""
        if "engine" in vars(self):
            self.engine.close()

    def key(self) -> str:
        """Return a hash of all that an embedding depends on but the image."""
        bundle = self.bundle
        facts = (bundle.graphs[ENCODER].sha256, bundle.image_size, bundle.mean, bundle.std)
        return content_key(repr((*facts, bundle.resize)).encode())


@dataclass(frozen=True)
class EncodedFrames:
    """The frames of one source that could be read, and their groups."""

    name: str
    images: list[PreparedImage]
    groups: list[str]

    def __len__(self) -> int:
        return len(self.images)

    def group(self, index: int) -> str:
        """Return what the frame belongs to: frames of one group never straddle a split."""
        return self.groups[index]


@dataclass(frozen=True)
class EncodedBatch:
    """The inputs and targets of one training step."""

    images: Tensor  # float32 [B, 3, S, S], normalised
    embeddings: Tensor  # float16 [B, C, S/16, S/16], the teacher's


class DistillationBatches(EndlessBatches[EncodedBatch]):
    """Endless random batches of whole images, as at inference."""

    def __init__(
        self,
        sets: list[PreparedSet],
        cache: EmbeddingCache,
        bundle: Bundle,
        batch_size: int,
        seed: int,
    ) -> None:
        super().__init__(batch_size, seed)
        self.sets, self.cache, self.bundle = sets, cache, bundle
        share = np.array([len(part.images) * part.weight for part in sets], np.float64)
        self.share = share / share.sum()

    def batch(self, _: np.random.Generator, each: list[np.random.Generator]) -> EncodedBatch:
        """Draw a batch."""
        return read_batch([self._pick(rng) for rng in each], self.cache, self.bundle)

    def _pick(self, rng: np.random.Generator) -> PreparedImage:
        images = self.sets[int(rng.choice(len(self.sets), p=self.share))].images
        return images[rng.integers(len(images))]


def read_batch(
    images: Sequence[PreparedImage], cache: EmbeddingCache, bundle: Bundle
) -> EncodedBatch:
    """Read images as the teacher sees them, and what it makes of them."""
    tensors = [
        preprocess(
            read_rgb(image.path), bundle.image_size, bundle.mean, bundle.std, bundle.resize
        ).tensor[0]
        for image in images
    ]
    embeddings = [cache.load(image, False) for image in images]
    return EncodedBatch(torch.from_numpy(np.stack(tensors)), torch.from_numpy(np.stack(embeddings)))


def encode_frames(
    source: FrameSource, teacher: Teacher, out: Path, cache: EmbeddingCache
) -> EncodedFrames:
    """Store a source's frames at the encoder's size, and their embeddings, unless they are there.

    What is broken is left out, with a warning. Several processes divide the work.

    Raises:
        DatasetError: if no frame could be read, or the disk is too small.
    """
    size = teacher.bundle.image_size
    key = content_key(source.key().encode(), str(size).encode())[:8]
    folder = out / FRAMES / f"{source.name}-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    missing = len(source) - sum(1 for _ in folder.glob("*.jpg"))
    if missing > 0:
        cache.reserve(missing, "choose another --out, or fewer images")
    processes.wait()  # until all know what is missing
    frames: list[tuple[PreparedImage, str]] = []
    bar = tqdm(
        source.frames(), f"encoding {source.name}", len(source), unit="frame", file=sys.stderr,
        disable=not processes.is_first(),
    )  # fmt: skip
    for number, frame in enumerate(bar):
        name = content_key(folder.name.encode(), frame.name.encode())
        image = PreparedImage(folder / f"{frame.name}.jpg", name, name)
        frames.append((image, f"{folder.name}/{frame.group}"))
        if number % processes.count() != processes.rank():
            continue
        if cache.has(image, False) and image.path.is_file():
            continue
        try:
            # The embedding is that of the stored image; the frame counts as done once it exists.
            write_rgb(image.path, shrink(frame.read(), size))
            cache.store(image, False, embed(teacher.bundle, teacher.engine, read_rgb(image.path)))
        except InputError as error:
            _LOGGER.warning("%s: %s left out: %s", source.name, frame.name, error)
    processes.wait()
    kept = [(image, group) for image, group in frames if cache.has(image, False)]
    if not kept:
        raise DatasetError(f"{source.name}: no frame could be read")
    return EncodedFrames(source.name, [i for i, _ in kept], [group for _, group in kept])


def hold_out_frames(
    sources: list[tuple[EncodedFrames, float]], fraction: float
) -> tuple[list[PreparedSet], list[PreparedSet]]:
    """Split frames by group into training and held-out parts, each with its source's weight.

    Of a share that is too small for the groups there are, one group is held out all the same.

    Raises:
        DatasetError: if nothing is left to train on.
    """
    if fraction > 0:
        fraction = max(fraction, least_fraction([frames for frames, _ in sources]))
    training: list[PreparedSet] = []
    held: list[PreparedSet] = []
    for frames, weight in sources:
        for part, indices in zip((training, held), split_by_group(frames, fraction), strict=True):
            if indices:
                part.append(PreparedSet([frames.images[index] for index in indices], weight))
    if not training:
        raise DatasetError("no image is left to train on after the split")
    return training, held
