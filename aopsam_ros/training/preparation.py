"""Before the first step: targets of every photograph, and embeddings where the encoder is slow."""

from __future__ import annotations

import functools
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from aopsam_ros.bundle.loading import Bundle, load_bundle
from aopsam_ros.engines.base import Engine, EngineOptions
from aopsam_ros.engines.registry import create_engine
from aopsam_ros.errors import DatasetError
from aopsam_ros.geometry import preprocess
from aopsam_ros.images.files import read_rgb
from aopsam_ros.models.frozen import FrozenModel
from aopsam_ros.segmentation.segmenter import Segmenter
from aopsam_ros.training.batches import WeightedDataset
from aopsam_ros.training.prepared_images import (
    EmbeddingCache,
    PreparedImage,
    PreparedSet,
    TargetCache,
)


class TemporaryBundle:
    """A frozen model as a bundle: exported when it is first needed, gone at the end.

    An engine runs it at a multiple of torch's speed on a CPU, and as it will run on a robot.

    Args:
        model: to export.
        parent: the folder that the temporary one is made in.
        threads: of the engine on a CPU; 0 leaves the choice to it.
    """

    def __init__(self, model: FrozenModel, parent: Path, threads: int) -> None:
        self.model, self._parent, self._threads = model, parent, threads
        self._stack = ExitStack()

    def __enter__(self) -> TemporaryBundle:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @functools.cached_property
    def bundle(self) -> Bundle:
        """The bundle."""
        print("exporting the frozen model, to run it fast", file=sys.stderr)
        self._parent.mkdir(parents=True, exist_ok=True)
        folder = self._stack.enter_context(TemporaryDirectory(prefix="frozen-", dir=self._parent))
        self.model.export(Path(folder) / "bundle")
        return load_bundle(Path(folder) / "bundle")

    @functools.cached_property
    def runtime(self) -> Engine:
        """The best engine there is, with the bundle."""
        runtime = create_engine(self.bundle, EngineOptions(threads=self._threads))
        self._stack.callback(runtime.close)
        return runtime

    def embed(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encode a picture; return its embedding `(C, h, w)`."""
        bundle = self.bundle
        image = preprocess(rgb, bundle.image_size, bundle.mean, bundle.std)
        return np.asarray(self.runtime.embedding(self.runtime.encode(image.tensor))[0])

    def segmenter(self, prompts: str) -> Segmenter:
        """Make a segmenter with a source of prompts that needs no predictor."""
        return Segmenter(self.bundle, self.runtime, prompts)


def prepare_targets(data: list[WeightedDataset], cache: TargetCache) -> list[PreparedSet]:
    """Make the targets that are not stored yet.

    Raises:
        DatasetError: An image or its annotation cannot be read.
    """
    prepared = [PreparedSet([], part.weight) for part in data]
    images = [
        (part.dataset, index, images)
        for part, images in zip(data, prepared, strict=True)
        for index in part.indices
    ]
    for dataset, index, found in tqdm(images, desc="targets", unit="image", file=sys.stderr):
        image = cache.identify(dataset, index)
        if not cache.has(image):
            cache.store(image, dataset.read(index))
        found.images.append(image)
    return prepared


def missing_embeddings(
    images: list[PreparedImage], cache: EmbeddingCache, flips: bool
) -> list[tuple[PreparedImage, bool]]:
    """List the images and mirror images that are not encoded yet, each content once."""
    sides = (False, True) if flips else (False,)
    by_content = {image.picture_key: image for image in images}
    views = [(image, flipped) for image in by_content.values() for flipped in sides]
    return [view for view in views if not cache.has(*view)]


def encode(
    views: list[tuple[PreparedImage, bool]], cache: EmbeddingCache, bundle: TemporaryBundle
) -> None:
    """Encode photographs; what is done stays done when this is stopped.

    Raises:
        DatasetError: The disk is too small, or a photograph cannot be read.
    """
    if not views:
        return
    cache.folder.mkdir(parents=True, exist_ok=True)
    _announce(len(views) * cache.bytes_each, len(views), cache.folder)
    for image, flipped in tqdm(views, desc="encoding", unit="view", file=sys.stderr):
        rgb = read_rgb(image.picture)
        view = np.ascontiguousarray(rgb[:, ::-1]) if flipped else rgb
        cache.store(image, flipped, bundle.embed(view))


def _announce(needed: int, count: int, folder: Path) -> None:
    """Say how much will be written, and refuse what does not fit."""
    print(f"{count} views to encode once: {needed / 1e6:.0f} MB in {folder.parent}")
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DatasetError(
            f"{folder}: the embeddings need {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; "
            "choose another --out, fewer images, or --no-flips"
        )
