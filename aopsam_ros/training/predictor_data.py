"""From data sets to a predictor's training data: targets and, for a slow encoder, embeddings."""

import functools
import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from aopsam_ros.images.files import read_rgb
from aopsam_ros.training.batches import WeightedDataset, describe_data
from aopsam_ros.training.frozen_engine import FrozenEngine
from aopsam_ros.training.loop import processes
from aopsam_ros.training.loop.trainer import TrainingData
from aopsam_ros.training.options import PredictorTrainingOptions
from aopsam_ros.training.predictor_batches import CachedBatches, ViewBatches
from aopsam_ros.training.predictor_validation import measure_prompts, validation_images
from aopsam_ros.training.prepared_images import (
    EmbeddingCache,
    PreparedImage,
    PreparedSet,
    TargetCache,
)

TARGETS, EMBEDDINGS = "targets", "embeddings"  # folders of a run


def encoded_on_the_fly(
    training: list[WeightedDataset],
    held: list[WeightedDataset],
    options: PredictorTrainingOptions,
    out: Path,
) -> TrainingData:
    """Return random views, encoded at each step: for an encoder faster than a training step."""
    targets = TargetCache(out / TARGETS, options.image_size)
    held_out = validation_images(_images_of(prepare_targets(held, targets)))
    return TrainingData(
        functools.partial(ViewBatches, training, options.image_size, options.batch_size),
        describe_data(training),
        functools.partial(measure_prompts, held_out, targets, None),
    )


def encoded_beforehand(
    training: list[WeightedDataset],
    held: list[WeightedDataset],
    options: PredictorTrainingOptions,
    out: Path,
    engine: FrozenEngine,
    flips: bool,
) -> TrainingData:
    """Return whole images and, with `flips`, their mirror images, encoded once.

    Raises:
        DatasetError: if an image or annotation cannot be used, or the disk is too small.
        InputError: if an image cannot be read.
    """
    targets, model = TargetCache(out / TARGETS, options.image_size), engine.model
    cache = EmbeddingCache(out / EMBEDDINGS, model.encoder_key(), model.embedding_shape)
    sets = prepare_targets(training, targets)
    held_out = validation_images(_images_of(prepare_targets(held, targets)))
    missing = _missing_embeddings(_images_of(sets), cache, flips)
    missing += _missing_embeddings(held_out, cache, flips=False)
    _encode(missing, cache, engine)
    return TrainingData(
        functools.partial(CachedBatches, sets, targets, cache, flips, options.batch_size),
        describe_data(training),
        functools.partial(measure_prompts, held_out, targets, cache),
    )


def prepare_targets(data: list[WeightedDataset], cache: TargetCache) -> list[PreparedSet]:
    """Make the targets that are not stored yet.

    Raises:
        DatasetError, InputError: if an image or its annotation cannot be read.
    """
    prepared = [PreparedSet([], part.weight) for part in data]
    images = []
    for part, target in zip(data, prepared, strict=True):
        for index in part.indices:
            target.images.append(cache.identify(part.dataset, index))
            images.append((part.dataset, index, target.images[-1]))
    bar = tqdm(processes.share(images), "targets", unit="image", file=sys.stderr)
    for dataset, index, image in bar:
        if not cache.has(image):
            cache.store(image, dataset.read(index))
    processes.wait()
    return prepared


def _images_of(sets: list[PreparedSet]) -> list[PreparedImage]:
    return [image for part in sets for image in part.images]


def _missing_embeddings(
    images: list[PreparedImage], cache: EmbeddingCache, flips: bool
) -> list[tuple[PreparedImage, bool]]:
    """List images and mirror images that are not encoded yet, each content once."""
    sides = (False, True) if flips else (False,)
    by_content = {image.image_key: image for image in images}
    views = [(image, flipped) for image in by_content.values() for flipped in sides]
    return [view for view in views if not cache.has(*view)]


def _encode(
    views: list[tuple[PreparedImage, bool]], cache: EmbeddingCache, engine: FrozenEngine
) -> None:
    """Encode images and mirror images; an interrupted run keeps those that are done."""
    processes.wait()  # until all know what is missing
    if views:
        cache.reserve(len(views), "choose another --out, fewer images, or --no-flips")
    bar = tqdm(processes.share(views), "encoding", unit="view", file=sys.stderr, disable=not views)
    for image, flipped in bar:
        rgb = read_rgb(image.path)
        view = np.ascontiguousarray(rgb[:, ::-1]) if flipped else rgb
        cache.store(image, flipped, engine.embed(view))
    processes.wait()
