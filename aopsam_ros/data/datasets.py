"""Opening data sets, whichever of the formats they have, and splitting them."""

import zlib
from collections.abc import Sequence
from pathlib import Path

from aopsam_ros.data.dataset_formats import (
    BsdsFolder,
    CocoFile,
    LabelMapFolder,
    Sa1bFolder,
    VocFolder,
)
from aopsam_ros.data.labelled_images import Grouped, InstanceDataset
from aopsam_ros.errors import DatasetError

_FOLDERS = (  # what has two folders of these names
    ("images", "masks", LabelMapFolder),
    ("images", "groundTruth", BsdsFolder),
    ("JPEGImages", "SegmentationObject", VocFolder),
)
_BUCKETS = 10_000  # of the hash of a group


def open_dataset(path: str | Path) -> InstanceDataset:
    """Open a folder or a JSON file as the format that it is.

    Args:
        path: A folder with `images/` and `masks/` (label maps); a COCO JSON file or a folder that
            holds exactly one beside its images; a PASCAL VOC folder; an SA-1B folder (`*.jpg`
            beside `*.json`); or BSDS500's `images/` and `groundTruth/`, of one split.

    Raises:
        DatasetError: if nothing there looks like one of these formats.
    """
    path = Path(path)
    if not path.exists():
        raise DatasetError(f"{path}: no such data set")
    for images, labels, folder in _FOLDERS:
        if (path / images).is_dir() and (path / labels).is_dir():
            return folder(path)
    if path.is_file() and path.suffix == ".json":
        return CocoFile(path)
    if not path.is_dir():
        raise DatasetError(f"{path}: neither a data folder nor a COCO JSON file")
    annotations = sorted(path.glob("*.json")) + sorted(path.glob("annotations/*.json"))
    if any(file.with_suffix(".jpg").exists() for file in annotations):
        return Sa1bFolder(path)
    if len(annotations) == 1:
        return CocoFile(annotations[0], path)
    pairs = ", ".join(f"{images}/ and {labels}/" for images, labels, _ in _FOLDERS)
    raise DatasetError(
        f"{path}: expected {pairs}, one COCO JSON file, or SA-1B's *.jpg with *.json; "
        f"found {len(annotations)} JSON files"
    )


def split_by_group(dataset: Grouped, fraction: float) -> tuple[list[int], list[int]]:
    """Split into (training, held-out) indices by a hash of the group: stable between runs.

    `fraction` is the share of the groups to hold out, 0-1.
    """
    training: list[int] = []
    held: list[int] = []
    for index in range(len(dataset)):
        out = _bucket(dataset.group(index)) < fraction * _BUCKETS
        (held if out else training).append(index)
    return training, held


def least_fraction(datasets: Sequence[Grouped]) -> float:
    """Return the smallest share that holds out a group and leaves one; 0 where none does."""
    buckets = {_bucket(data.group(index)) for data in datasets for index in range(len(data))}
    return (min(buckets) + 1) / _BUCKETS if len(buckets) > 1 else 0.0


def _bucket(group: str) -> int:
    return zlib.crc32(group.encode(errors="surrogateescape")) % _BUCKETS
