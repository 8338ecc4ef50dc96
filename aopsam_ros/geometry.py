"""From an image to the square tensor a SAM encoder takes, and coordinates there and back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.errors import InputError

Sides = tuple[int, int]  # rows and columns
Resize = Literal["pad", "stretch"]  # how an image is made a square: see `resized_geometry`

MAX_SIDE = 16384  # pixels; far beyond any camera, small enough to catch a corrupt header
MAX_PIXELS = 1 << 26  # an 8K frame is half of this


@dataclass(frozen=True)
class FrameGeometry:
    """How the source image lies in the encoder's square: top left, `valid` pixels of `image_size`.

    Coordinates follow SAM: a source pixel (x, y) is `(x, y) * scale` in the square, and the
    half pixel is added by the decoder. Squares of other sizes (confidence map, features,
    low-resolution masks) show the same padded area with cells of `image_size / size` pixels.
    """

    height: int
    width: int
    valid_height: int
    valid_width: int
    image_size: int

    @property
    def valid(self) -> tuple[int, int]:
        """Rows and columns of the square that show the image."""
        return self.valid_height, self.valid_width

    @property
    def scale(self) -> NDArray[np.float64]:
        """Resized pixels per source pixel, `[x, y]`; equal but for rounding, unless stretched."""
        return np.array([self.valid_width / self.width, self.valid_height / self.height])

    def to_resized(self, points: NDArray[Any]) -> NDArray[np.float32]:
        """Scale points `[..., 2]` (x, y) from source pixels to pixels of the square."""
        return np.asarray(points * self.scale, np.float32)

    def valid_cells(self, size: int) -> tuple[int, int]:
        """Rows and columns of a `size` x `size` map whose cell centres show the image."""
        # Cell i has its centre at (i + 0.5) * image_size / size.
        side = self.image_size
        counts = (-((side - 2 * valid * size) // (2 * side)) for valid in self.valid)
        rows, columns = (min(max(count, 1), size) for count in counts)
        return rows, columns

    def to_cells(self, points: NDArray[Any], size: int) -> NDArray[np.float64]:
        """Convert source points `[..., 2]` to cell indices (x, y) of a `size` x `size` map.

        Whole numbers are cell centres; the result may lie up to half a cell outside the map.
        """
        resized = np.asarray(self.to_resized(points), np.float64)
        return np.asarray((resized + 0.5) * (size / self.image_size) - 0.5)

    def cells_to_source(self, cells: NDArray[Any], size: int) -> NDArray[np.float64]:
        """Convert cell indices (x, y) `[..., 2]` to source points, kept inside the image."""
        resized = (np.asarray(cells, np.float64) + 0.5) * (self.image_size / size) - 0.5
        corner = [self.width - 1.0, self.height - 1.0]
        return np.asarray(np.clip(resized / self.scale, 0.0, corner), np.float64)


@dataclass(frozen=True)
class PreprocessedImage:
    """The encoder's input, float32 `[1, 3, S, S]`, and where the image lies in it."""

    tensor: NDArray[np.float32]
    geometry: FrameGeometry


def resized_geometry(
    height: int, width: int, image_size: int, resize: Resize = "pad"
) -> FrameGeometry:
    """Fit an image into the square.

    With "pad" its long side becomes `image_size` and the other is rounded half up, as SAM's; with
    "stretch" both become `image_size`, as SAM 2's.
    """
    if resize == "stretch":
        return FrameGeometry(height, width, image_size, image_size, image_size)
    scale = image_size / max(height, width)
    valid_height = max(1, int(height * scale + 0.5))
    valid_width = max(1, int(width * scale + 0.5))
    return FrameGeometry(height, width, valid_height, valid_width, image_size)


def check_size(width: int, height: int) -> None:
    """Refuse an image that is empty or of absurd size.

    Raises:
        InputError: if it is.
    """
    size = f"{width}x{height}"
    if width == 0 or height == 0:
        raise InputError(f"the image is empty: {size} pixels")
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise InputError(
            f"{size} pixels are too large an image: at most {MAX_SIDE} a side, {MAX_PIXELS} in all"
        )


def check_image(rgb: object) -> NDArray[np.uint8]:
    """Return the image as a contiguous uint8 array `[H, W, 3]`.

    Raises:
        InputError: if it is not an array of that type and shape, or has no pixels.
    """
    if not isinstance(rgb, np.ndarray):
        raise InputError(f"the image must be a numpy array, not {type(rgb).__name__}")
    if rgb.dtype != np.uint8:
        raise InputError(f"the image must be uint8, not {rgb.dtype}")
    if rgb.ndim != 3 or rgb.shape[2] != 3:
        raise InputError(f"the image must be [height, width, 3], not {list(rgb.shape)}")
    if rgb.size == 0:
        raise InputError(f"the image is empty: {rgb.shape[1]} x {rgb.shape[0]} pixels")
    return np.ascontiguousarray(rgb)


def resize_image(rgb: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize uint8 `[H, W, 3]`: area averaging when it shrinks, bilinear when it grows."""
    if rgb.shape[:2] == (height, width):
        return rgb
    shrinks = height * width < rgb.shape[0] * rgb.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(rgb, (width, height), interpolation=method), np.uint8)


def shrink(rgb: NDArray[np.uint8], image_size: int) -> NDArray[np.uint8]:
    """Resize an image that is larger than the encoder's input to what the encoder sees of it."""
    if max(rgb.shape[:2]) <= image_size:
        return rgb
    geometry = resized_geometry(rgb.shape[0], rgb.shape[1], image_size)
    return resize_image(rgb, geometry.valid_height, geometry.valid_width)


def preprocess(
    rgb: NDArray[np.uint8],
    image_size: int,
    mean: Sequence[float],
    std: Sequence[float],
    resize: Resize = "pad",
) -> PreprocessedImage:
    """Resize, normalise and pad an image as SAM does (segment-anything, `Sam.preprocess`).

    Training and inference both use this function, so that a model sees the same pixels in both.

    Args:
        rgb: uint8 `[H, W, 3]`.
        image_size: side S of the padded square.
        mean: per channel, on the 0-255 scale.
        std: per channel, on the 0-255 scale.
        resize: see `resized_geometry`.

    Raises:
        InputError: if the image is not uint8 `[H, W, 3]` or is empty.
    """
    image = check_image(rgb)
    geometry = resized_geometry(image.shape[0], image.shape[1], image_size, resize)
    resized = resize_image(image, geometry.valid_height, geometry.valid_width)
    tensor = np.zeros((1, 3, image_size, image_size), np.float32)
    for channel in range(3):
        # Padding stays zero: SAM pads after normalising.
        valid = tensor[0, channel, : geometry.valid_height, : geometry.valid_width]
        np.multiply(resized[:, :, channel], np.float32(1.0 / std[channel]), out=valid)
        valid -= np.float32(mean[channel] / std[channel])
    return PreprocessedImage(tensor, geometry)


@dataclass(frozen=True)
class ContentArea:
    """The top left `rows` x `columns` pixels of a padded square of side `square`.

    An image of 16:9 fills nine parts of sixteen of its square: graphs that take any size compute
    this area alone, and their maps are padded to those of the square.
    """

    rows: int
    columns: int
    square: int

    def in_map(self, side: int) -> Sides:
        """Return rows and columns of this area in a map of `side` x `side` over the square."""
        return -(-self.rows * side // self.square), -(-self.columns * side // self.square)


def content_area(valid: Sides | None, square: int, multiple: int) -> ContentArea:
    """Return the smallest area that graphs can take and that holds the image.

    Args:
        valid: rows and columns that show the image; None: all.
        square: side of the padded square, pixels.
        multiple: what the area's sides have to be multiples of; 0: graphs take the square only.
    """
    if valid is None or not multiple:
        return ContentArea(square, square, square)
    rows, columns = (min(square, -(-max(1, side) // multiple) * multiple) for side in valid)
    return ContentArea(rows, columns, square)


def crop_to_content(image: NDArray[np.float32], area: ContentArea) -> NDArray[np.float32]:
    """Return the area's part of an image `[..., S, S]`, contiguous."""
    return np.ascontiguousarray(image[..., : area.rows, : area.columns])


def pad_to_square(part: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Pad the top left part of a map, `[..., rows, columns]`, with zeros to `[..., side, side]`."""
    rows, columns = part.shape[-2:]
    if (rows, columns) == (side, side):
        return part
    beyond = [(0, 0)] * (part.ndim - 2) + [(0, side - rows), (0, side - columns)]
    return np.pad(part, beyond)


def paired_iou(boxes: NDArray[Any], others: NDArray[Any]) -> NDArray[np.float64]:
    """Return the IoU of boxes `[..., 4]` with others, which are broadcast against each other."""
    top_left = np.maximum(boxes[..., :2], others[..., :2])
    bottom_right = np.minimum(boxes[..., 2:], others[..., 2:])
    overlap = _area(top_left, bottom_right)
    areas = [_area(each[..., :2], each[..., 2:]) for each in (boxes, others)]
    union = areas[0] + areas[1] - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)


def _area(top_left: NDArray[Any], bottom_right: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(np.prod(np.maximum(bottom_right - top_left, 0.0), axis=-1), np.float64)
