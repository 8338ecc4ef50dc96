"""The promptable model: encode an image once, decode prompts on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.bundle.loading import Bundle
from aopsam_ros.engines.base import Decoded, Engine, all_logits
from aopsam_ros.errors import InputError
from aopsam_ros.geometry import FrameGeometry, PreprocessedImage, preprocess
from aopsam_ros.prompting.features import FeatureMap
from aopsam_ros.segmentation.stopwatch import Stopwatch
from aopsam_ros.segmentation.time_budget import Pace


@dataclass(frozen=True)
class FrameEmbedding:
    """An encoded image: decode as many prompts on it as wanted.

    `handle` is the engine's own and stays on its device.
    """

    image: PreprocessedImage
    handle: Any

    @property
    def geometry(self) -> FrameGeometry:
        """Return how the image lies in the encoder's square."""
        return self.image.geometry


class PromptableModel:
    """A bundle and the engine that runs it; the engine says how many threads may use it at once."""

    def __init__(self, bundle: Bundle, runtime: Engine) -> None:
        """Put the parts together."""
        self.bundle = bundle
        self.runtime = runtime
        self.pace = Pace()

    @property
    def largest_batch(self) -> int | None:
        """The most prompts `decode` takes at once; None: any number."""
        return self.runtime.largest_batch

    def encode(
        self, rgb: NDArray[np.uint8], stopwatch: Stopwatch, padding: str = "square"
    ) -> FrameEmbedding:
        """Encode an image.

        Args:
            rgb: uint8 `[H, W, 3]`.
            stopwatch: of the frame.
            padding: "square", or "least" to leave out what the engine can do without.

        Raises:
            InputError: if the image is not such an array or is empty.
            InferenceError: if the graph fails.
        """
        with stopwatch.stage("preprocess"):
            image = preprocess(rgb, self.bundle.image_size, self.bundle.mean, self.bundle.std)
        with stopwatch.stage("encoder"):
            valid = image.geometry.valid if padding == "least" else None
            return FrameEmbedding(image, self.runtime.encode(image.tensor, valid))

    def decode(self, frame: FrameEmbedding, coords: NDArray[Any], labels: NDArray[Any]) -> Decoded:
        """Decode N prompts of K points on an encoded image, in one call of the graph.

        Args:
            frame: from `encode`, the last one.
            coords: `[N, K, 2]`, x and y in source pixels; N at most `largest_batch`.
            labels: `[N, K]`: 1 foreground, 0 background, 2 and 3 box corners, -1 padding.

        Returns:
            Masks over the padded square, valid until the next call.

        Raises:
            InputError: if the shapes do not fit together or a coordinate is not finite.
            InferenceError: if the graph fails.
        """
        points, kinds = np.asarray(coords), np.asarray(labels)
        if points.ndim != 3 or points.shape[2] != 2 or points.shape[:2] != kinds.shape:
            raise InputError(
                "prompts must be coordinates [N, K, 2] and labels [N, K], not "
                f"{list(points.shape)} and {list(kinds.shape)}"
            )
        if points.size == 0 or not np.isfinite(points).all():
            raise InputError("prompts must have at least one point and finite coordinates")
        return self.runtime.decode(
            frame.handle, frame.geometry.to_resized(points), kinds.astype(np.float32)
        )

    def decode_all(
        self, frame: FrameEmbedding, coords: NDArray[Any], labels: NDArray[Any]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Decode any number of prompts, and return every logit of every mask.

        Returns:
            logits float32 `[N, 3, M, M]` over the padded square, predicted IoU float32 `[N, 3]`.

        Raises:
            InputError, InferenceError: as `decode`.
        """
        step = self.runtime.largest_batch or max(1, len(coords))
        parts = [
            self._all_of(frame, coords[start : start + step], labels[start : start + step])
            for start in range(0, max(1, len(coords)), step)
        ]
        logits, predicted_iou = zip(*parts, strict=True)
        return np.concatenate(logits), np.concatenate(predicted_iou)

    def _all_of(
        self, frame: FrameEmbedding, coords: NDArray[Any], labels: NDArray[Any]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        decoded = self.decode(frame, coords, labels)
        return all_logits(decoded), decoded.predicted_iou

    def confidence_map(self, frame: FrameEmbedding) -> NDArray[np.float32]:
        """Return the prompt confidence map, float32 `[P, P]` over the padded square.

        Raises:
            InferenceError: if the graph fails.
        """
        return self.runtime.predict(frame.image.tensor, frame.handle)

    def features(self, frame: FrameEmbedding) -> FeatureMap:
        """Return the features that ASF filtering compares.

        Raises:
            InferenceError: if the embedding is not what it must be.
        """
        embedding = self.runtime.embedding(frame.handle)
        return FeatureMap(embedding, frame.geometry, self.bundle.similarity_channels)
