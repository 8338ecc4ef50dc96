"""One frame on its way through the pipeline, each step of it made when it is first asked for."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.bundle.loading import Bundle
from aopsam_ros.engines.base import Decoded, Engine
from aopsam_ros.geometry import FrameGeometry
from aopsam_ros.masks.merging import merge
from aopsam_ros.masks.selection import LowResMasks
from aopsam_ros.masks.suppression import SUPPRESSION
from aopsam_ros.masks.upscaling import Upscaler
from aopsam_ros.options import SegmenterOptions
from aopsam_ros.prompting.features import FeatureMap
from aopsam_ros.prompting.filtering import FilterContext
from aopsam_ros.prompting.prompts import FrameInput, PromptSet, as_decoder_input
from aopsam_ros.results import Segmentation
from aopsam_ros.segmentation.decoding_loop import decode_prompts
from aopsam_ros.segmentation.segmenter import FrameEmbedding, Segmenter
from aopsam_ros.segmentation.time_budget import Stopwatch, TimeBudget

FILTERED_BATCH = 8  # masks that one filtering looks at


class BenchmarkFrame:
    """What each stage takes, as the segmenter would hand it over."""

    def __init__(self, bundle: Bundle, runtime: Engine, rgb: NDArray[np.uint8]) -> None:
        self.bundle = bundle
        self.runtime = runtime
        self.rgb = rgb
        self.segmenter = Segmenter(bundle, runtime)
        self.source = self.segmenter.source
        self.options: SegmenterOptions = self.segmenter.options

    @cached_property
    def embedding(self) -> FrameEmbedding:
        """The encoded image."""
        return self.segmenter.encode(self.rgb)

    @property
    def geometry(self) -> FrameGeometry:
        """How the image lies in the square."""
        return self.embedding.geometry

    @cached_property
    def confidence_map(self) -> NDArray[np.float32] | None:
        """The PCM; None where the prompts come from elsewhere."""
        if not self.source.needs_confidence_map:
            return None
        return self.runtime.predict(self.embedding.image.tensor, self.embedding.handle)

    @cached_property
    def seen(self) -> FrameInput:
        """What the prompt source looks at."""
        features = self.features if self.source.needs_features else None
        return FrameInput(self.geometry, self.options, self.confidence_map, features)

    @cached_property
    def prompts(self) -> PromptSet:
        """The frame's prompts."""
        return self.source.propose(self.seen)

    def some_prompts(self, count: int) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Return coordinates and labels of so many prompts, from the beginning again if need be."""
        return as_decoder_input(self.prompts, np.arange(count) % len(self.prompts.points))

    def decode(self, count: int) -> Decoded:
        """Decode so many prompts at once."""
        return self._decode(*self.some_prompts(count))

    def _decode(self, coords: NDArray[np.float64], labels: NDArray[np.float32]) -> Decoded:
        return self.runtime.decode(self.embedding.handle, self.geometry.to_resized(coords), labels)

    @cached_property
    def found(self) -> LowResMasks:
        """All masks that passed the filters, before suppression."""
        decoded = decode_prompts(
            self.prompts,
            self._decode,
            lambda: self.features,
            self.geometry,
            self.segmenter.limits,
            self.options,
            Stopwatch(),
            TimeBudget(),
        )
        return decoded.masks

    @cached_property
    def features(self) -> FeatureMap:
        """The features that filtering compares."""
        return self.segmenter.features(self.embedding)

    @cached_property
    def context(self) -> FilterContext:
        """The first masks, and all other prompts."""
        masks = self.found.take(np.arange(min(FILTERED_BATCH, len(self.found))))
        return FilterContext(
            features=self.features,
            geometry=self.geometry,
            low_size=self.bundle.low_res_mask_size,
            masks=masks.binary(*self.valid),
            predicted_iou=masks.predicted_iou,
            prompts=masks.prompt,
            points=self.prompts.points[masks.prompt],
            remaining=self.prompts.points[FILTERED_BATCH:],
        )

    @property
    def valid(self) -> tuple[int, int]:
        """Rows and columns of a low-resolution mask that show the image."""
        return self.geometry.valid_cells(self.bundle.low_res_mask_size)

    def combine(self) -> LowResMasks:
        """Resolve the overlaps of the masks found."""
        found, options = self.found, self.options.mask
        binary, threshold = found.binary(*self.valid), options.overlap_threshold
        if options.combine == "merge":
            return merge(found, binary, threshold)[0]
        return found.take(SUPPRESSION[options.combine](binary, found.predicted_iou, threshold))

    @cached_property
    def kept(self) -> LowResMasks:
        """The masks that are left then."""
        return self.combine()

    @cached_property
    def upscaler(self) -> Upscaler:
        """Made once an image size, not once a frame."""
        return Upscaler(self.geometry, self.bundle.low_res_mask_size)

    @cached_property
    def segmentation(self) -> Segmentation:
        """The whole result."""
        return self.segmenter.segment(self.rgb)
