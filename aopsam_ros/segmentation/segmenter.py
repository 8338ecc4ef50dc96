"""From an image to its masks, without a prompt: the whole way of a frame.

>>> segmenter = Segmenter.from_bundle("nano")
>>> segmentation = segmenter.segment(rgb)
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.bundle.loading import Bundle, load_bundle
from aopsam_ros.engines.base import Engine, EngineOptions, OnProgress, silent
from aopsam_ros.engines.registry import create_engine
from aopsam_ros.geometry import check_image
from aopsam_ros.options import AsfOptions, MaskOptions, SegmenterOptions
from aopsam_ros.prompting.boxes import Boxes
from aopsam_ros.prompting.choosing import AUTO, check_source, choose_source
from aopsam_ros.prompting.features import FeatureMap
from aopsam_ros.prompting.previous_prompts import Earlier
from aopsam_ros.results import Segmentation
from aopsam_ros.segmentation.crops import segment_crops
from aopsam_ros.segmentation.frame_segmentation import segment_frame
from aopsam_ros.segmentation.promptable import FrameEmbedding, PromptableModel
from aopsam_ros.segmentation.stopwatch import Stopwatch

__all__ = ["AsfOptions", "Boxes", "FrameEmbedding", "MaskOptions", "Segmenter", "SegmenterOptions"]


class Segmenter:
    """A loaded bundle and a prompt source. One thread at a time may use it, unless `concurrent`."""

    def __init__(self, bundle: Bundle, runtime: Engine, prompt_source: str = AUTO) -> None:
        """Put the parts together; `from_bundle` makes them from names.

        Raises:
            OptionError: if the prompt source is unknown, or needs a graph the bundle lacks.
            BundleError: if the bundle's defaults are out of range.
        """
        self._model = PromptableModel(bundle, runtime)
        self._source = choose_source(prompt_source, bundle.name, runtime.has_predictor)
        self._options = bundle.options(self._source.defaults_group, self._source.mask_options)

    @classmethod
    def from_bundle(
        cls,
        name_or_path: str | Path,
        engine: str = "auto",
        prompt_source: str = AUTO,
        threads: int = 0,
        precision: str = "auto",
        on_progress: OnProgress = silent,
    ) -> Segmenter:
        """Load a model bundle.

        Args:
            name_or_path: an installed bundle's name, or a bundle's folder.
            engine: "auto" or the name of an engine.
            prompt_source: "predictor", "boxes", "box_centres", "clusters", "grid16" or any "gridN";
                "auto" takes the predictor where the bundle has one, else what works without.
            threads: of one graph's operators on a CPU; 0 leaves the choice to the engine.
            precision: "auto", "fp16", "fp32" or "int8"; see `create_engine`.
            on_progress: told once a second while an engine is built, which takes minutes.

        Raises:
            BundleError: if the bundle is missing, malformed or altered.
            EngineError: if the engine cannot be used.
            OptionError: if the prompt source is unknown, or needs a graph the bundle lacks.
        """
        check_source(prompt_source)  # a wrong name is told before seconds of loading
        bundle = load_bundle(name_or_path)
        options = EngineOptions(engine=engine, precision=precision, threads=threads)
        runtime = create_engine(bundle, options, on_progress)
        return cls(bundle, runtime, prompt_source)

    @property
    def options(self) -> SegmenterOptions:
        """Options used where `segment` is given none; at first the bundle's defaults."""
        return self._options

    @options.setter
    def options(self, options: SegmenterOptions) -> None:
        self._options = options

    @property
    def model(self) -> str:
        """Name of the bundle."""
        return self._model.bundle.name

    @property
    def engine(self) -> str:
        """Name of the engine that runs it."""
        return self._model.runtime.name

    @property
    def device(self) -> str:
        """Where the engine runs it: "cpu" or "cuda"."""
        return self._model.runtime.device

    @property
    def concurrent(self) -> bool:
        """Whether several threads at once may segment images."""
        return self._model.runtime.concurrent

    @property
    def precision(self) -> str:
        """How the engine computes: "fp32", "fp16", "fp16 but encoder"."""
        return self._model.runtime.precision

    @property
    def prompt_source(self) -> str:
        """Name of the prompt source."""
        return self._source.name

    @property
    def bundle(self) -> Bundle:
        """The bundle's description."""
        return self._model.bundle

    @property
    def needs_boxes(self) -> bool:
        """Whether the prompt source needs boxes with every frame."""
        return self._source.needs_boxes

    def segment(
        self,
        rgb: NDArray[np.uint8],
        options: SegmenterOptions | None = None,
        boxes: Boxes | None = None,
        stopwatch: Stopwatch | None = None,
    ) -> Segmentation:
        """Find the masks of an image.

        Args:
            rgb: uint8 `[H, W, 3]`, from 1 x 1 pixel.
            options: for this frame; the `options` property where None.
            boxes: a detector's, in source pixels, for the prompt sources that need them.
            stopwatch: told of every stage as it begins and ends; one of its own where None.

        Raises:
            InputError: if the image is not such an array, or boxes are needed and not given.
            InferenceError: if a graph fails.
            EngineError: if the prompt source needs a package that is not installed.
        """
        chosen, watch = options or self._options, stopwatch or Stopwatch()

        def whole(image: NDArray[np.uint8]) -> Segmentation:
            return self.segment_frame(self.encode(image, watch, chosen), chosen, boxes, watch)

        def in_time(pictures: int) -> bool:
            budget_ms, taken = chosen.asf.time_budget_ms, watch.timings_ms()
            encoding = (taken["preprocess"] + taken["encoder"]) / pictures
            decoding = 1e3 * self._model.pace.least()
            return not budget_ms or taken["total"] + encoding + decoding < budget_ms

        layers = self._source.crop_layers(chosen)
        if layers == 0:
            return whole(rgb)
        threshold = chosen.mask.overlap_threshold
        return segment_crops(whole, check_image(rgb), layers, threshold, in_time)

    def segment_frame(
        self,
        frame: FrameEmbedding,
        options: SegmenterOptions | None = None,
        boxes: Boxes | None = None,
        stopwatch: Stopwatch | None = None,
        earlier: Earlier | None = None,
    ) -> Segmentation:
        """Find the masks of an image that is encoded already; see `segment` and `encode`.

        Crops would have to be encoded anew: `grid.crop_layers` plays no part here. `earlier` is
        what a stream's frame takes over from the one before, from `FrameReuse`.
        """
        return segment_frame(
            self._model,
            self._source,
            frame,
            options or self._options,
            boxes,
            stopwatch or Stopwatch(),
            earlier,
        )

    def encode(
        self,
        rgb: NDArray[np.uint8],
        stopwatch: Stopwatch | None = None,
        options: SegmenterOptions | None = None,
    ) -> FrameEmbedding:
        """Encode an image once, to decode prompts on it.

        Args:
            rgb: uint8 `[H, W, 3]`, from 1 x 1 pixel.
            stopwatch: told of the stages.
            options: for this frame; the `options` property where None.

        Raises:
            InputError: if the image is not uint8 `[H, W, 3]` or is empty.
            InferenceError: if the graph fails.
        """
        padding = (options or self._options).encoder.padding
        return self._model.encode(rgb, stopwatch or Stopwatch(), padding)

    def features(self, frame: FrameEmbedding) -> FeatureMap:
        """Return what the last encoded image looks like, pixel by pixel of the embedding.

        Raises:
            InferenceError: if the embedding is not what it must be.
        """
        return self._model.features(frame)

    def decode(
        self, frame: FrameEmbedding, coords: NDArray[Any], labels: NDArray[Any]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Decode N prompts of K points on an encoded image.

        Args:
            frame: from `encode`.
            coords: `[N, K, 2]`, x and y in source pixels.
            labels: `[N, K]`: 1 foreground, 0 background, 2 and 3 box corners, -1 padding.

        Returns:
            logits float32 `[N, 3, M, M]` over the padded square, predicted IoU float32 `[N, 3]`.

        Raises:
            InputError: if the shapes do not fit together or a coordinate is not finite.
            InferenceError: if the graph fails.
        """
        return self._model.decode_all(frame, coords, labels)

    def close(self) -> None:
        """Free the graphs; the segmenter cannot be used afterwards."""
        self._model.runtime.close()

    def __enter__(self) -> Segmenter:
        """Return itself; `close` is called at the end of the `with` block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Free the graphs."""
        self.close()
