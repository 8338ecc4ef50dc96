"""What masks show, as numbers: features of a model's labeller or of a semantic map."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.bundle.loading import ENCODER, LABELLER
from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.errors import BundleError
from aopsam_ros.geometry import FrameGeometry
from aopsam_ros.masks.iou import Crop, crop_of
from aopsam_ros.masks.rle import decode_full
from aopsam_ros.options import SegmenterOptions
from aopsam_ros.prompting.features import FeatureMap, single_thread_matmul, unit_length
from aopsam_ros.results import InstanceMask
from aopsam_ros.segmentation.segmenter import FrameEmbedding, Segmenter

SEMANTIC_MODEL = "nano"  # whose semantic map stands in for a bundle's that has none
_PROBE = np.zeros((32, 32, 3), np.uint8)
# Returns what is entered while a segmenter may be used by other threads.
Pause = Callable[[], contextlib.AbstractContextManager[None]]
_BATCH = 32  # masks that a labeller takes at once
_FAR = 320  # pixels along the longer side of an example's small views
_LIGHTS = ((0.7, 1.3), (1.3, 0.8))  # gain and gamma of its darker and its brighter view


class SemanticEncoder:
    """What things are: by a model's labeller, its semantic map, or `nano`'s where it has neither.

    Attributes:
        identity: which graph's features these are: model, version, and the graph's hash.
        size: D, how many numbers a feature has.
    """

    def __init__(
        self, segmenter: Segmenter, engine: EngineOptions, pause: Pause = contextlib.nullcontext
    ) -> None:
        """Find out what the model has; no other thread may use it, but during a `pause`.

        `nano` is loaded in a pause, as that takes seconds.

        Raises:
            BundleError: if the labeller takes no features of the model's size.
            BundleError, EngineError: if a graph or `nano` is needed and cannot be loaded.
            InferenceError: if a graph fails.
        """
        frame = segmenter.encode(_PROBE)
        self._segmenter = segmenter
        self._own: Segmenter | None = None
        self._labeller = labeller = segmenter.bundle.labeller
        semantic_map = segmenter.engine.semantic_map(frame.handle)
        if labeller is None and semantic_map is None:
            if segmenter.engine.name == "tensorrt":  # would build plans: minutes without masks
                engine = replace(engine, engine="onnxruntime")
            with pause():
                self._own = Segmenter.from_bundle(SEMANTIC_MODEL, "grid1", engine)
            self._segmenter = self._own
        elif labeller is not None and labeller.takes == "features":
            given = 0 if semantic_map is None else semantic_map.shape[1]
            if given != labeller.input_size:
                raise BundleError(
                    f"{segmenter.bundle.folder}: {LABELLER} takes features of "
                    f"{labeller.input_size} numbers, {ENCODER} gives {given or 'none'}"
                )
        bundle = self._segmenter.bundle
        digest = bundle.graphs[ENCODER if labeller is None else LABELLER].sha256[:12]
        self.identity = f"{bundle.name} {bundle.version} {digest}"
        whole = np.ones(_PROBE.shape[:2], np.bool_)
        self.size = self.features(_PROBE, frame, [whole]).shape[1]

    def example(
        self,
        rgb: NDArray[np.uint8],
        mask: InstanceMask | NDArray[np.bool_],
        options: SegmenterOptions | None = None,
    ) -> NDArray[np.float32]:
        """Return the feature of a mask that is an example, of unit length, float32 `[1, D]`.

        It is the mean over views of the image, so that it is similar to the thing in another light
        and from farther away, too. Each view is encoded.

        Args:
            rgb: the image, uint8 `[H, W, 3]`.
            mask: one that was found, or a whole one, bool `[H, W]`.
            options: that images are encoded with; the segmenter's own where None.

        Raises:
            InferenceError: if a graph fails.
        """
        whole = decode_full(mask, *rgb.shape[:2]) if isinstance(mask, InstanceMask) else mask
        found = [self.features(view, None, [seen], options) for view, seen in _views(rgb, whole)]
        return unit_length(np.mean(found, axis=0, dtype=np.float32))

    def features(
        self,
        rgb: NDArray[np.uint8],
        frame: FrameEmbedding | None,
        masks: Sequence[InstanceMask | NDArray[np.bool_]],
        options: SegmenterOptions | None = None,
    ) -> NDArray[np.float32]:
        """Return masks' features, of unit length, float32 `[n, D]`.

        Args:
            rgb: the image, uint8 `[H, W, 3]`.
            frame: its embedding by the model; None: it is encoded where that is needed.
            masks: in it, those that were found or whole ones, bool `[H, W]`.
            options: as in `example`; `nano`, where it stands in, is always used with its own.

        Raises:
            InferenceError: if a graph fails.
        """
        labeller, crops = self._labeller, [crop_of(mask) for mask in masks]
        if labeller is None:
            return pool_masks(crops, self._semantic_map(rgb, frame, options))
        found = np.empty((len(crops), labeller.embedding_size), np.float32)
        for first in range(0, len(crops), _BATCH):
            some = crops[first : first + _BATCH]
            inputs = (
                crop_images(rgb, some, labeller.input_size)
                if labeller.takes == "crops"
                else pool_masks(some, self._semantic_map(rgb, frame, options))
            )
            found[first : first + _BATCH] = self._segmenter.engine.embed_masks(inputs)
        return unit_length(found)

    def _semantic_map(
        self,
        rgb: NDArray[np.uint8],
        frame: FrameEmbedding | None,
        options: SegmenterOptions | None,
    ) -> FeatureMap:
        segmenter = self._segmenter
        if self._own is not None:
            frame = segmenter.encode(rgb)
        elif frame is None:
            frame = segmenter.encode(rgb, options)
        found = segmenter.engine.semantic_map(frame.handle)
        assert found is not None  # of this model, by `__init__`
        return FeatureMap(found, frame.geometry, found.shape[1])

    def close(self) -> None:
        """Free the model, where it is one of its own."""
        if self._own is not None:
            self._own.close()


def _views(
    rgb: NDArray[np.uint8], mask: NDArray[np.bool_]
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
    """Yield an image and its mask as they are, then small, in other lights."""
    yield rgb, mask
    scale = min(1.0, _FAR / max(mask.shape))
    size = max(1, round(scale * mask.shape[1])), max(1, round(scale * mask.shape[0]))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA) / 255.0
    covered = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    own = covered >= min(0.5, covered.max())  # a tiny thing keeps its fullest pixel
    for gain, gamma in _LIGHTS:
        yield (255.0 * np.clip(gain * small**gamma, 0.0, 1.0)).astype(np.uint8), own


def pool_masks(masks: Sequence[Crop], features: FeatureMap) -> NDArray[np.float32]:
    """Return each mask's mean feature, of unit length, float32 `[n, C]`.

    Each cell is weighted by the share of it that the mask covers: a semantic map has few cells, and
    most things cover only parts of theirs. Masks are in source pixels.
    """
    shares = np.zeros((len(masks), len(features.unit)), np.float32)
    down, across = _cell_shares(features.geometry, features.size)
    down, across = down[: features.rows], across[: features.columns]
    for row, mask in enumerate(masks):
        x, y, width, height = mask.box
        pixels = mask.pixels.astype(np.float32)
        shares[row] = (down[:, y : y + height] @ (pixels @ across[:, x : x + width].T)).ravel()
    return unit_length(single_thread_matmul(shares, features.unit))


def crop_images(rgb: NDArray[np.uint8], masks: Sequence[Crop], size: int) -> NDArray[np.float32]:
    """Return the square around each mask's box, float32 `[n, 3, size, size]`, 0 to 255.

    It is cut from the image, uint8 `[H, W, 3]`, as far as it fits, and resized. What surrounds a
    mask stays: it says what the thing is.
    """
    crops = np.empty((len(masks), 3, size, size), np.float32)
    for own, mask in zip(crops, masks, strict=True):
        x, y, width, height = mask.box
        side = max(width, height)
        left = min(max(0, x - (side - width) // 2), max(0, rgb.shape[1] - side))
        top = min(max(0, y - (side - height) // 2), max(0, rgb.shape[0] - side))
        window = rgb[top : top + side, left : left + side]
        own[:] = cv2.resize(window, (size, size), interpolation=cv2.INTER_AREA).transpose(2, 0, 1)
    return crops


def _cell_shares(
    geometry: FrameGeometry, size: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return how much of each pixel's length lies in each cell, `[size, H]` and `[size, W]`."""
    edges = np.arange(size + 1) * (geometry.image_size / size)
    shares = []
    for pixels, scale in zip((geometry.height, geometry.width), geometry.scale[::-1], strict=True):
        start, pixel = edges[:, None] / scale, np.arange(pixels)[None]
        shared = np.minimum(start[1:], pixel + 1) - np.maximum(start[:-1], pixel)
        shares.append(np.asarray(np.maximum(shared, 0.0), np.float32))
    return shares[0], shares[1]
