"""Distillation: an encoder learns a teacher's embeddings, as MobileSAM's did (arXiv 2306.14289).

The images need no labels; their embeddings are made once.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from tqdm import tqdm

from aopsam_ros.bundle.loading import ENCODER, Bundle
from aopsam_ros.data.frames import FrameSource
from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.engines.engine import Engine
from aopsam_ros.engines.registry import create_engine
from aopsam_ros.errors import DatasetError, InputError
from aopsam_ros.geometry import preprocess, shrink
from aopsam_ros.images.files import read_rgb, write_rgb
from aopsam_ros.training.batches import WeightedDataset
from aopsam_ros.training.frozen_engine import embed
from aopsam_ros.training.loop import processes
from aopsam_ros.training.loop.loader import EndlessBatches, Sample, stack_samples, to_device
from aopsam_ros.training.loop.trainer import TimedTrainer
from aopsam_ros.training.options import DistillationOptions
from aopsam_ros.training.prepared_images import EmbeddingCache, PreparedImage, content_key
from aopsam_ros.training.students import Student, make_student

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


class DistillationBatches(EndlessBatches):
    """Endless random batches of whole images, as at inference."""

    make = EncodedBatch

    def __init__(
        self,
        sets: list[WeightedDataset],
        cache: EmbeddingCache,
        bundle: Bundle,
        batch_size: int,
        seed: int,
    ) -> None:
        super().__init__([part.count for part in sets], batch_size, seed)
        self.sets, self.cache, self.bundle = sets, cache, bundle

    def sample(self, source: int, rng: np.random.Generator) -> Sample:
        """See `EndlessBatches`."""
        part = self.sets[source]
        return read_sample(part.dataset.images[part.pick(rng)], self.cache, self.bundle)


def read_sample(image: PreparedImage, cache: EmbeddingCache, bundle: Bundle) -> Sample:
    """Read an image as the teacher sees it, and what it makes of it."""
    settings = bundle.image_size, bundle.mean, bundle.std, bundle.resize
    return preprocess(read_rgb(image.path), *settings).tensor[0], cache.load(image, False)


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


class Distilled(NamedTuple):
    """The loss of a batch, and the mean cosine of its cells with the teacher's."""

    loss: Tensor
    cosine: Tensor


class DistillationTrainer(TimedTrainer):
    """Trains a student on the cached embeddings of a teacher."""

    title, checkpoint = "distill", "student.pt"
    model: Student

    def __init__(
        self, options: DistillationOptions, teacher: Teacher, out: Path, start: Path | None = None
    ) -> None:
        torch.manual_seed(options.seed)
        student = make_student(options.student, teacher.bundle, start)
        super().__init__(options, student, teacher.key(), out)

    def forward(self, batch: EncodedBatch) -> Distilled:
        """Compare the student's embeddings with the teacher's."""
        batch = to_device(batch, self.device)
        found, wanted = self.model(batch.images), batch.embeddings.float()
        with torch.no_grad():
            cosine = F.cosine_similarity(found, wanted, dim=1).mean()
        return Distilled(F.mse_loss(found, wanted), cosine)


@torch.no_grad()
def measure_frames(
    images: list[PreparedImage],
    cache: EmbeddingCache,
    bundle: Bundle,
    forward: Callable[[EncodedBatch], Distilled],
) -> dict[str, float]:
    """Return `held_out_loss` and `held_out_cosine` of images; {} without images."""
    if not images:
        return {}
    samples = (stack_samples([read_sample(image, cache, bundle)]) for image in images)
    found = [forward(EncodedBatch(*sample)) for sample in samples]
    return {
        "held_out_loss": float(np.mean([one.loss.item() for one in found])),
        "held_out_cosine": float(np.mean([one.cosine.item() for one in found])),
    }
