"""The photographs that are measured on: those with a true mask that counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.data.datasets import InstanceDataset, LabelledImage
from aopsam_ros.evaluation.metrics import instance_masks
from aopsam_ros.evaluation.store import image_key


@dataclass(frozen=True)
class Photograph:
    """A photograph that counts: it has a true mask of at least 0.1 % of its area."""

    dataset: InstanceDataset
    index: int
    image: LabelledImage
    truth: list[NDArray[np.bool_]]

    @property
    def key(self) -> str:
        """Its name in a `Store`."""
        return image_key(self.dataset.name, self.image)


def read(dataset: InstanceDataset, index: int) -> Photograph | None:
    """Read a photograph; None if it has no instance that counts."""
    image = dataset.read(index)
    truth = instance_masks(image.layers)
    return Photograph(dataset, index, image, truth) if truth else None


def spread(indices: Sequence[int], limit: int) -> list[int]:
    """Take at most `limit` of the indices, evenly spread; 0 takes all."""
    count = min(len(indices), limit or len(indices))
    return [indices[i * len(indices) // count] for i in range(count)]


def choose(datasets: Sequence[InstanceDataset], limit: int) -> list[tuple[InstanceDataset, int]]:
    """List the images to measure on; a limit spreads them evenly over each data set."""
    return [
        (dataset, index) for dataset in datasets for index in spread(range(len(dataset)), limit)
    ]
