"""What is kept of a photograph between steps and runs: its targets and its embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.data.labelled_images import InstanceDataset, LabelledImage
from aopsam_ros.errors import DatasetError
from aopsam_ros.geometry import FrameGeometry, resize_image, resized_geometry
from aopsam_ros.training.cache_files import (
    content_key,
    is_whole_array,
    read_arrays,
    write_array,
    write_arrays,
)
from aopsam_ros.training.predictor_targets import PromptTarget, view_target

TARGETS_VERSION = 1  # of how targets are made: another one makes them again


@dataclass(frozen=True)
class PreparedImage:
    """A photograph: its file, a name for its content, and one for its content and its labels."""

    picture: Path
    picture_key: str
    target_key: str


@dataclass(frozen=True)
class PreparedSet:
    """Photographs of one data set, and how often each is seen compared with other sets'."""

    images: list[PreparedImage]
    weight: float = 1.0


def fit(rgb: NDArray[np.uint8], image_size: int) -> tuple[NDArray[np.uint8], FrameGeometry]:
    """Resize a photograph as at inference, and lay it top left on a black square."""
    geometry = resized_geometry(rgb.shape[0], rgb.shape[1], image_size)
    height, width = geometry.valid_height, geometry.valid_width
    canvas = np.zeros((image_size, image_size, 3), np.uint8)
    canvas[:height, :width] = resize_image(rgb, height, width)
    return canvas, geometry


class TargetCache:
    """Targets of whole photographs, one file each: reading the masks again would take longer.

    Args:
        folder: of the files.
        image_size: the encoder's input size, pixels.
        stride: pixels of the image to one of the map.
        smallest: instances of fewer pixels of the resized image give no point.
    """

    def __init__(self, folder: Path, image_size: int, stride: int, smallest: int) -> None:
        self.folder, self.image_size = folder, image_size
        self.stride, self.smallest = stride, smallest

    def identify(self, dataset: InstanceDataset, index: int) -> PreparedImage:
        """Name an image of a data set by its content."""
        picture = dataset.image_path(index)
        content, annotation = picture.read_bytes(), dataset.annotation(index)
        settings = repr((TARGETS_VERSION, self.image_size, self.stride, self.smallest)).encode()
        key = content_key(content, annotation, settings)
        return PreparedImage(picture, content_key(content), key)

    def has(self, image: PreparedImage) -> bool:
        """Return whether the image's targets are stored and whole."""
        return read_arrays(self._path(image), "points") is not None

    def store(self, image: PreparedImage, labelled: LabelledImage) -> None:
        """Make and write the image's targets."""
        height, width = labelled.rgb.shape[:2]
        geometry = resized_geometry(height, width, self.image_size)
        layers = _resized_layers(labelled.layers, geometry)
        points = labelled.points
        mirrored = None if points is None else points * [-1, 1] + [width - 1, 0]
        plain = self._target(layers, points, geometry)
        flipped = self._target(layers[:, :, ::-1], mirrored, geometry)
        arrays = {"points": plain.points, "known": plain.known, "layers": layers}
        arrays |= {"flipped_points": flipped.points, "flipped_known": flipped.known}
        write_arrays(self._path(image), arrays)

    def _target(
        self,
        layers: NDArray[np.uint16],
        points: NDArray[np.float32] | None,
        geometry: FrameGeometry,
    ) -> PromptTarget:
        placed = None if points is None else geometry.to_resized(points)
        return view_target(layers, self.image_size, self.stride, self.smallest, placed)

    def target(self, image: PreparedImage, flipped: bool = False) -> PromptTarget:
        """Read the target of an image or of its mirror image."""
        prefix = "flipped_" if flipped else ""
        return PromptTarget(*self._read(image, f"{prefix}points", f"{prefix}known"))

    def layers(self, image: PreparedImage) -> NDArray[np.uint16]:
        """Read the labels, `[L, h, w]` at the size that the encoder sees."""
        return self._read(image, "layers")[0]

    def _read(self, image: PreparedImage, *names: str) -> tuple[NDArray, ...]:
        arrays = read_arrays(self._path(image), *names)
        if arrays is None:
            raise DatasetError(f"{self._path(image)}: damaged since it was checked; run again")
        return arrays

    def _path(self, image: PreparedImage) -> Path:
        return self.folder / f"{image.target_key}.npz"


def _resized_layers(layers: NDArray[np.uint16], geometry: FrameGeometry) -> NDArray[np.uint16]:
    size = (geometry.valid_width, geometry.valid_height)
    return np.stack([cv2.resize(layer, size, interpolation=cv2.INTER_NEAREST) for layer in layers])


class EmbeddingCache:
    """Embeddings of a frozen encoder in half precision, one file for a photograph or its mirror.

    Args:
        folder: a folder in it, named by the encoder, holds the files.
        encoder_key: all that an embedding depends on but the photograph.
        shape: of an embedding, `(C, h, w)`.
    """

    def __init__(self, folder: Path, encoder_key: str, shape: tuple[int, int, int]) -> None:
        self.folder, self.shape = folder / encoder_key[:16], shape

    @property
    def bytes_each(self) -> int:
        """Size of one file, about."""
        return 2 * int(np.prod(self.shape))

    def has(self, image: PreparedImage, flipped: bool) -> bool:
        """Return whether the embedding is stored and whole."""
        return is_whole_array(self._path(image, flipped), self.shape, "float16")

    def store(self, image: PreparedImage, flipped: bool, embedding: NDArray[np.float32]) -> None:
        """Write an embedding `(C, h, w)`.

        Raises:
            DatasetError: It has values beyond half precision.
        """
        with np.errstate(over="ignore"):
            half = embedding.astype(np.float16)
        if not np.isfinite(half).all():
            raise DatasetError(f"{image.picture}: its embedding does not fit into 16 bits")
        write_array(self._path(image, flipped), half)

    def load(self, image: PreparedImage, flipped: bool) -> NDArray[np.float16]:
        """Read an embedding."""
        path = self._path(image, flipped)
        if not self.has(image, flipped):
            raise DatasetError(f"{path}: damaged since it was checked; run again")
        return np.asarray(np.load(path, allow_pickle=False))

    def _path(self, image: PreparedImage, flipped: bool) -> Path:
        return self.folder / f"{image.picture_key}{'-mirrored' if flipped else ''}.npy"
