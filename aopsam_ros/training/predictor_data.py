"""From data sets to what a predictor's training reads: on the fly, or encoded beforehand."""

from __future__ import annotations

import functools
from pathlib import Path

from aopsam_ros.models.prompt_predictor import MAP_STRIDE
from aopsam_ros.training.batches import WeightedDataset
from aopsam_ros.training.predictor_batches import CachedBatches, ViewBatches
from aopsam_ros.training.predictor_training import PredictorData, PredictorTrainingOptions
from aopsam_ros.training.predictor_validation import HeldOut, choose
from aopsam_ros.training.preparation import (
    TemporaryBundle,
    encode,
    missing_embeddings,
    prepare_targets,
)
from aopsam_ros.training.prepared_images import (
    EmbeddingCache,
    PreparedImage,
    PreparedSet,
    TargetCache,
)
from aopsam_ros.training.provenance import describe_data

TARGETS, EMBEDDINGS = "targets", "embeddings"  # folders of a run


def encoded_on_the_fly(
    training: list[WeightedDataset],
    held: list[WeightedDataset],
    options: PredictorTrainingOptions,
    out: Path,
) -> PredictorData:
    """Random views, each encoded when it comes: for an encoder that takes less than a step."""
    targets = _target_cache(options, out)
    batches = functools.partial(
        ViewBatches, training, options.image_size, options.batch_size, options.smallest
    )
    held_out = HeldOut(choose(prepare_targets(held, targets)), targets, None)
    return PredictorData(batches, describe_data(training), held_out)


def encoded_beforehand(
    training: list[WeightedDataset],
    held: list[WeightedDataset],
    options: PredictorTrainingOptions,
    out: Path,
    bundle: TemporaryBundle,
    flips: bool,
) -> PredictorData:
    """Whole photographs, and with `flips` their mirror images, encoded once and for all.

    Raises:
        DatasetError: A photograph cannot be read, or the embeddings do not fit on the disk.
    """
    targets, model = _target_cache(options, out), bundle.model
    cache = EmbeddingCache(out / EMBEDDINGS, model.encoder_key(), model.embedding_shape)
    sets = prepare_targets(training, targets)
    held_out = choose(prepare_targets(held, targets))
    missing = missing_embeddings(_images(sets), cache, flips)
    missing += missing_embeddings(held_out, cache, flips=False)
    encode(missing, cache, bundle)
    batches = functools.partial(CachedBatches, sets, targets, cache, flips, options.batch_size)
    return PredictorData(batches, describe_data(training), HeldOut(held_out, targets, cache))


def _target_cache(options: PredictorTrainingOptions, out: Path) -> TargetCache:
    return TargetCache(out / TARGETS, options.image_size, MAP_STRIDE, options.smallest)


def _images(sets: list[PreparedSet]) -> list[PreparedImage]:
    return [image for part in sets for image in part.images]
