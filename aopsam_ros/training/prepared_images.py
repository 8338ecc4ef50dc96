"""What is stored of training images between steps and runs: their targets and their embeddings.

Files are named by a hash of what they were made from, and are written whole or not at all.
"""

import hashlib
import io
import shutil
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.data.labelled_images import InstanceDataset, LabelledImage, resize_layers
from aopsam_ros.errors import DatasetError
from aopsam_ros.geometry import FrameGeometry, resize_image, resized_geometry
from aopsam_ros.images.files import write_bytes
from aopsam_ros.training.predictor_targets import (
    MAP_STRIDE,
    SMALLEST_PROMPTED,
    PromptTarget,
    view_instances,
    view_target,
)

TARGETS_VERSION = 2  # of the format and the rules of targets
KEY_LENGTH = 32  # of 64 hexadecimal digits: short names, and still no two the same
_DAMAGED = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class PreparedImage:
    """An image file, with the hash of its content and that of its content, labels and settings."""

    path: Path
    image_key: str
    target_key: str


@dataclass(frozen=True)
class PreparedSet:
    """Images of one data set, and how often each is seen compared with other sets'."""

    images: list[PreparedImage]
    weight: float = 1.0


def content_key(*parts: bytes) -> str:
    """Hash some contents together."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{len(part)}\n".encode())
        digest.update(part)
    return digest.hexdigest()[:KEY_LENGTH]


def resize_to_square(
    rgb: NDArray[np.uint8], image_size: int
) -> tuple[NDArray[np.uint8], FrameGeometry]:
    """Resize an image as at inference, and put it top left on a black square."""
    geometry = resized_geometry(rgb.shape[0], rgb.shape[1], image_size)
    height, width = geometry.valid_height, geometry.valid_width
    canvas = np.zeros((image_size, image_size, 3), np.uint8)
    canvas[:height, :width] = resize_image(rgb, height, width)
    return canvas, geometry


class TargetCache:
    """Targets of whole images for encoders of a size, one `.npz` each, in a folder.

    Reading the masks again would take longer.
    """

    def __init__(self, folder: Path, image_size: int) -> None:
        self.folder, self.image_size = folder, image_size

    def identify(self, dataset: InstanceDataset, index: int) -> PreparedImage:
        """Hash an image of a data set, with its annotation."""
        path = dataset.image_path(index)
        content, annotation = path.read_bytes(), dataset.annotation(index)
        settings = (TARGETS_VERSION, self.image_size, MAP_STRIDE, SMALLEST_PROMPTED)
        key = content_key(content, annotation, repr(settings).encode())
        return PreparedImage(path, content_key(content), key)

    def has(self, image: PreparedImage) -> bool:
        """Return whether the image's targets are stored and whole."""
        return self._load(image, "points") is not None

    def store(self, image: PreparedImage, labelled: LabelledImage) -> None:
        """Make and write the targets of the image and of its mirror image."""
        height, width = labelled.rgb.shape[:2]
        geometry = resized_geometry(height, width, self.image_size)
        layers = resize_layers(labelled.layers, geometry.valid_height, geometry.valid_width)
        points = labelled.points
        mirrored = None if points is None else points * [-1, 1] + [width - 1, 0]
        square = (self.image_size, self.image_size)
        arrays: dict[str, NDArray[Any]] = {"layers": layers}
        sides = (("", layers, points), ("flipped_", layers[:, :, ::-1], mirrored))
        for prefix, seen, given in sides:
            resized = None if given is None else geometry.to_resized(given)
            instances = view_instances(seen, SMALLEST_PROMPTED) if given is None else []
            target = view_target(seen, instances, square, resized)
            arrays |= {f"{prefix}points": target.points, f"{prefix}known": target.known}
        content = io.BytesIO()
        np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
        _write(self._path(image), content)

    def target(self, image: PreparedImage, flipped: bool = False) -> PromptTarget:
        """Read the target of an image or of its mirror image."""
        prefix = "flipped_" if flipped else ""
        return PromptTarget(*self._read(image, f"{prefix}points", f"{prefix}known"))

    def layers(self, image: PreparedImage) -> NDArray[np.uint16]:
        """Read the labels, `[L, h, w]` at the size that the encoder sees."""
        return self._read(image, "layers")[0]

    def _read(self, image: PreparedImage, *names: str) -> tuple[NDArray[Any], ...]:
        arrays = self._load(image, *names)
        if arrays is None:
            raise DatasetError(f"{self._path(image)}: damaged since it was checked; run again")
        return arrays

    def _load(self, image: PreparedImage, *names: str) -> tuple[NDArray[Any], ...] | None:
        try:
            with np.load(self._path(image), allow_pickle=False) as arrays:
                return tuple(arrays[name] for name in names)
        except _DAMAGED:
            return None

    def _path(self, image: PreparedImage) -> Path:
        return self.folder / f"{image.target_key}.npz"


class EmbeddingCache:
    """Embeddings of a frozen encoder in half precision, a `.npy` for each image or mirror image.

    They lie in a folder named by `encoder_key`, a hash of all that an embedding depends on but the
    image; `shape` is `(C, h, w)`.
    """

    def __init__(self, folder: Path, encoder_key: str, shape: tuple[int, int, int]) -> None:
        self.folder, self.shape = folder / encoder_key[:16], shape

    @property
    def bytes_each(self) -> int:
        """Size of one file, about."""
        return 2 * int(np.prod(self.shape))

    def has(self, image: PreparedImage, flipped: bool) -> bool:
        """Return whether the embedding is stored and whole."""
        return self._map(self._path(image, flipped)) is not None

    def _map(self, path: Path) -> NDArray[np.float16] | None:
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except _DAMAGED:
            return None
        is_whole = isinstance(array, np.ndarray) and array.shape == self.shape
        return array if is_whole and array.dtype == np.float16 else None

    def reserve(self, count: int, remedy: str) -> None:
        """Make the folder; say how much room so many embeddings take.

        Raises:
            DatasetError: if the disk has less; the message ends with the remedy.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        needed, free = count * self.bytes_each, shutil.disk_usage(self.folder).free
        print(f"{count} views to encode once: {needed / 1e6:.0f} MB in {self.folder.parent}")
        if needed > free:
            raise DatasetError(
                f"{self.folder}: the embeddings need {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are"
                f" free; {remedy}"
            )

    def store(self, image: PreparedImage, flipped: bool, embedding: NDArray[np.float32]) -> None:
        """Write an embedding `(C, h, w)`.

        Raises:
            DatasetError: if it has values beyond half precision.
        """
        with np.errstate(over="ignore"):
            half = embedding.astype(np.float16)
        if not np.isfinite(half).all():
            raise DatasetError(f"{image.path}: its embedding does not fit into 16 bits")
        content = io.BytesIO()
        np.save(content, half, allow_pickle=False)
        _write(self._path(image, flipped), content)

    def load(self, image: PreparedImage, flipped: bool) -> NDArray[np.float16]:
        """Read an embedding."""
        path = self._path(image, flipped)
        array = self._map(path)
        if array is None:
            raise DatasetError(f"{path}: damaged since it was checked; run again")
        return np.array(array)

    def _path(self, image: PreparedImage, flipped: bool) -> Path:
        return self.folder / f"{image.image_key}{'-mirrored' if flipped else ''}.npy"


def _write(path: Path, content: io.BytesIO) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content.getvalue())
