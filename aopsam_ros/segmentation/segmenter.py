"""From an image to its masks, without a prompt: the whole way of a frame.

>>> segmenter = Segmenter.from_bundle("nano")
>>> segmentation = segmenter.segment(rgb)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.bundle.loading import Bundle, load_bundle
from aopsam_ros.engines.base import Decoded, EngineOptions, OnProgress, all_logits, silent
from aopsam_ros.engines.engine import Engine
from aopsam_ros.engines.registry import create_engine
from aopsam_ros.errors import InputError
from aopsam_ros.geometry import FrameGeometry, PreprocessedImage, check_image, preprocess
from aopsam_ros.options import SegmenterOptions
from aopsam_ros.prompting.boxes import Boxes
from aopsam_ros.prompting.features import FeatureMap, attention_features
from aopsam_ros.prompting.previous_prompts import PreviousPrompts
from aopsam_ros.prompting.prompts import FrameInput, PromptSet
from aopsam_ros.prompting.sources import AUTO, choose_source, make_source
from aopsam_ros.results import Prompt, PromptState, Segmentation
from aopsam_ros.segmentation.crops import segment_crops
from aopsam_ros.segmentation.decoding_loop import DecodingLimits, decode_prompts
from aopsam_ros.segmentation.instances import build_instances
from aopsam_ros.segmentation.time_budget import Stopwatch, TimeBudget

MakeEngine = Callable[[Bundle, EngineOptions, OnProgress], Engine]


@dataclass(frozen=True)
class FrameEmbedding:
    """An encoded image: decode as many prompts on it as wanted."""

    image: PreprocessedImage  # as the encoder took it
    handle: Any  # the embedding, of the engine's own type, on its device
    padding: str = "square"  # the option `encoder.padding` that it was encoded with

    @property
    def geometry(self) -> FrameGeometry:
        """How the image lies in the encoder's square."""
        return self.image.geometry


class Segmenter:
    """A bundle, the engine that runs it, and a prompt source.

    One thread at a time may use it, unless `engine.concurrent`.

    Attributes:
        bundle: description of the model.
        engine: runs the model's graphs.
        source: proposes prompts.
        options: used where `segment` is given none; at first the bundle's defaults.
        time_budget: estimates from the last images how many prompts the next has time for.
    """

    def __init__(self, bundle: Bundle, engine: Engine, prompt_source: str = AUTO) -> None:
        """Put the parts together; `from_bundle` makes them from names.

        Raises:
            OptionError: if the prompt source is unknown, or needs a graph the bundle lacks.
            BundleError: if the bundle's defaults are out of range.
        """
        self.bundle, self.engine = bundle, engine
        self.source = choose_source(
            prompt_source, bundle.name, engine.has_predictor, bundle.prompter
        )
        self._refines = self.source.takes("mask.refine")
        self.options = bundle.options(self.source.defaults_group, self.source.defaults)
        self.time_budget = TimeBudget()

    @classmethod
    def from_bundle(
        cls,
        name_or_path: str | Path,
        prompt_source: str = AUTO,
        engine: EngineOptions | str = AUTO,
        on_progress: OnProgress = silent,
        make_engine: MakeEngine = create_engine,
    ) -> Segmenter:
        """Load a model bundle.

        Args:
            name_or_path: an installed bundle's name, or a bundle's folder.
            prompt_source: "predictor", "boxes", "box_centres", "clusters", "grid16" or any "gridN",
                "random256" or any "randomN"; "auto" takes the predictor where the bundle has one,
                else clusters.
            engine: the engine, its precision and threads; or only its name, "auto" for the best
                that works on this machine.
            on_progress: called once a second while an engine is built, which takes minutes.
            make_engine: returns the bundle's engine; `create_engine`, or one that is there already.

        Raises:
            BundleError: if the bundle is missing, malformed or altered.
            EngineError: if the engine cannot be used.
            OptionError: if the prompt source is unknown, or needs a graph the bundle lacks.
        """
        if prompt_source != AUTO:
            make_source(prompt_source)  # refuses a wrong name before seconds of loading
        bundle = load_bundle(name_or_path)
        options = EngineOptions(engine=engine) if isinstance(engine, str) else engine
        made = make_engine(bundle, options, on_progress)
        try:
            return cls(bundle, made, prompt_source)
        except BaseException:
            made.close()
            raise

    def segment(
        self,
        rgb: NDArray[np.uint8],
        options: SegmenterOptions | None = None,
        boxes: Boxes | None = None,
        stopwatch: Stopwatch | None = None,
        *,
        edges: bool = False,
    ) -> Segmentation:
        """Find the masks of an image.

        Args:
            rgb: uint8 `[H, W, 3]`, from 1 x 1 pixel.
            options: for this image; the segmenter's own where None.
            boxes: a detector's, in source pixels, for the prompt sources that need them.
            stopwatch: measures every stage.
            edges: find its edges as well; none where `grid.crop_layers` applies.

        Raises:
            InputError: if the image is not such an array, or boxes are needed and not given.
            InferenceError: if a graph fails.
        """
        chosen, watch = options or self.options, stopwatch or Stopwatch()

        def crop(image: NDArray[np.uint8]) -> Segmentation:
            shown = chosen.updated({"mask.granularity": "all"})
            return self.segment_frame(self.encode(image, chosen, watch), shown, boxes, watch)

        def in_time(images: int) -> bool:
            budget_ms, taken = chosen.asf.time_budget_ms, watch.timings_ms()
            encoding = (taken["preprocess"] + taken["encoder"]) / images
            needed = taken["total"] + encoding + 1e3 * self.time_budget.least()
            return not budget_ms or needed < budget_ms

        layers = self.crop_layers(chosen)
        if layers == 0:
            frame = self.encode(rgb, chosen, watch)
            return self.segment_frame(frame, chosen, boxes, watch, edges=edges)
        threshold, granularity = chosen.mask.overlap_threshold, chosen.mask.granularity
        return segment_crops(crop, check_image(rgb), layers, threshold, in_time, granularity)

    def crop_layers(self, options: SegmenterOptions) -> int:
        """Return how many layers of crops are segmented as well; 0 where the source makes none."""
        return options.grid.crop_layers if self.source.croppable else 0

    def encode(
        self,
        rgb: NDArray[np.uint8],
        options: SegmenterOptions | None = None,
        stopwatch: Stopwatch | None = None,
    ) -> FrameEmbedding:
        """Encode an image once, to decode prompts on it; arguments as in `segment`.

        Raises:
            InputError: if the image is not uint8 `[H, W, 3]` or is empty.
            InferenceError: if the graph fails.
        """
        watch, bundle = stopwatch or Stopwatch(), self.bundle
        with watch.stage("preprocess"):
            image = preprocess(rgb, bundle.image_size, bundle.mean, bundle.std, bundle.resize)
        with watch.stage("encoder"):
            return self._encoded(image, (options or self.options).encoder.padding)

    def _encoded(self, image: PreprocessedImage, padding: str) -> FrameEmbedding:
        valid = image.geometry.valid if padding == "least" else None
        return FrameEmbedding(image, self.engine.encode(image.tensor, valid), padding)

    def segment_frame(
        self,
        frame: FrameEmbedding,
        options: SegmenterOptions | None = None,
        boxes: Boxes | None = None,
        stopwatch: Stopwatch | None = None,
        previous: PreviousPrompts | None = None,
        *,
        edges: bool = False,
        hysteresis: float = 0.0,
    ) -> Segmentation:
        """Find the masks of an encoded image; arguments and errors as in `segment`.

        Args:
            frame: from `encode`, the last one. Crops would have to be encoded anew: the option
                `grid.crop_layers` has no effect here.
            options: for this image.
            boxes: a detector's.
            stopwatch: measures every stage.
            previous: prompts of a stream's frame before, which take the place of a part of the
                source's; only adaptive sources use them.
            edges: find its edges as well, of all masks that passed the filters.
            hysteresis: how much below the thresholds masks pass, with `strong` False; the others
                are the same as without. All granularities are kept then: see `Hysteresis.update`.
        """
        chosen, watch = options or self.options, stopwatch or Stopwatch()
        prompts, confidence_map = self._propose(frame, chosen, boxes, watch, previous)
        decoded = decode_prompts(
            prompts,
            functools.partial(self._decode, frame),
            functools.partial(self.features, frame),
            frame.geometry,
            replace(self.limits_of(chosen), hysteresis=hysteresis),
            chosen,
            watch,
            self.time_budget,
        )
        began = watch.elapsed()
        with watch.stage("postprocess"):
            shown = replace(chosen.mask, granularity="all") if hysteresis else chosen.mask
            masks, kept = build_instances(decoded, frame.geometry, shown)
        states = decoded.states.copy()
        states[kept] = PromptState.KEPT
        edge_map = None
        if edges:
            from aopsam_ros.masks.edges import find_edges  # not on the way of most frames

            with watch.stage("postprocess"):
                found = decoded.masks.where(decoded.masks.strong)
                edge_map = find_edges(found.logits, found.score, frame.geometry)
        segmentation = Segmentation(
            height=frame.geometry.height,
            width=frame.geometry.width,
            masks=masks,
            prompts=_as_results(prompts, states),
            prompts_decoded=decoded.num_decoded,
            timings_ms=watch.timings_ms(),
            confidence_map=confidence_map,
            model=self.bundle.name,
            prompt_source=self.source.name,
            status=decoded.status,
            edge_map=edge_map,
        )
        if decoded.num_decoded:
            self.time_budget.end.add(len(decoded.masks), watch.elapsed() - began)
        return segmentation

    def limits_of(self, options: SegmenterOptions) -> DecodingLimits:
        """Return what model, prompt source and options set for decoding."""
        passes = options.boxes.refine if self.source.needs_boxes else 0
        return DecodingLimits(
            adaptive=self.source.adaptive,
            spread=self.source.spread,
            largest_batch=self.engine.largest_batch,
            efficient_batch=self.engine.efficient_batch,
            low_size=self.bundle.low_res_mask_size,
            stability_offset=self.bundle.stability_offset,
            score_weights=self.bundle.score_weights,
            box_passes=passes if passes and self.engine.accepts_mask_input else 0,
            own_box_passes=options.mask.refine if self._refines else 0,
        )

    def _propose(
        self,
        frame: FrameEmbedding,
        options: SegmenterOptions,
        boxes: Boxes | None,
        stopwatch: Stopwatch,
        previous: PreviousPrompts | None,
    ) -> tuple[PromptSet, NDArray[np.float32] | None]:
        """Return the prompts of a frame, and the part of the PCM that shows it, if one was made."""
        source, geometry = self.source, frame.geometry
        confidence_map = extent_map = shown = None
        previous = previous if source.adaptive else None
        if previous is not None and previous.covers_frame:
            return previous.prompts(options.asf), None
        if source.needs_confidence_map:
            with stopwatch.stage("predictor"):
                confidence_map, extent_map = self.engine.predict(frame.image.tensor, frame.handle)
                rows, columns = geometry.valid_cells(len(confidence_map))
                shown = np.ascontiguousarray(confidence_map[:rows, :columns])
        with stopwatch.stage("sampling"):
            features = self.source_features(frame) if source.needs_features else None
            frame_input = FrameInput(geometry, options, confidence_map, extent_map, features, boxes)
            prompts = source.propose(frame_input)
            if previous is not None:
                prompts = previous.merge(prompts, geometry, options.asf)
            return prompts, shown

    def features(self, frame: FrameEmbedding) -> FeatureMap:
        """Return the features of the last encoded image, one for each pixel of the embedding.

        Raises:
            InferenceError: if the embedding is not what it must be.
        """
        embedding = self.engine.embedding(frame.handle)
        return FeatureMap(embedding, frame.geometry, self.bundle.similarity_channels)

    def source_features(self, frame: FrameEmbedding) -> FeatureMap:
        """Return what a source compares: the encoder's attention, else the embedding's features.

        Raises:
            InferenceError: if either is not what it must be.
        """
        attention = self.engine.attention(frame.handle)
        if attention is None:
            return self.features(frame)
        return attention_features(attention, frame.geometry)

    def restored(self, frame: FrameEmbedding) -> FrameEmbedding:
        """Return a frame to decode on after others were encoded: the same where engines keep them.

        Raises:
            InferenceError: if it had to be encoded again, and the graph fails.
        """
        if self.engine.keeps_embeddings:
            return frame
        return self._encoded(frame.image, frame.padding)

    def decode(
        self,
        frame: FrameEmbedding,
        coords: NDArray[Any],
        labels: NDArray[Any],
        mask_input: NDArray[np.float32] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Decode N prompts of K points on an encoded image.

        Args:
            frame: from `encode`, the last one; see `restored`.
            coords: `[N, K, 2]`, x and y in source pixels.
            labels: `[N, K]`: 1 foreground, 0 background, 2 and 3 box corners, -1 padding.
            mask_input: logits `[N, 1, M, M]` to begin with.

        Returns:
            logits float32 `[N, 3, M, M]` over the padded square, predicted IoU float32 `[N, 3]`.
            With SAM's single mask it is the first of four.

        Raises:
            InputError: if the shapes do not fit together or a coordinate is not finite.
            InferenceError: if the graph fails.
        """
        step = self.engine.largest_batch or max(1, len(coords))
        logits, predicted_iou = [], []
        for start in range(0, max(1, len(coords)), step):
            some = slice(start, start + step)
            begin = None if mask_input is None else mask_input[some]
            decoded = self._decode(frame, coords[some], labels[some], begin)
            logits.append(all_logits(decoded))
            predicted_iou.append(decoded.predicted_iou)
        return np.concatenate(logits), np.concatenate(predicted_iou)

    def _decode(
        self,
        frame: FrameEmbedding,
        coords: NDArray[Any],
        labels: NDArray[Any],
        mask_input: NDArray[np.float32] | None = None,
    ) -> Decoded:
        """Decode at most `engine.largest_batch` prompts; see `decode`."""
        points, kinds = np.asarray(coords), np.asarray(labels)
        if points.ndim != 3 or points.shape[2] != 2 or points.shape[:2] != kinds.shape:
            raise InputError(
                "prompts must be coordinates [N, K, 2] and labels [N, K], not "
                f"{list(points.shape)} and {list(kinds.shape)}"
            )
        if points.size == 0 or not np.isfinite(points).all():
            raise InputError("prompts must have at least one point and finite coordinates")
        resized = frame.geometry.to_resized(points)
        return self.engine.decode(frame.handle, resized, kinds.astype(np.float32), mask_input)

    def close(self) -> None:
        """Free the graphs; the segmenter cannot be used afterwards."""
        self.engine.close()

    def __enter__(self) -> Segmenter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _as_results(prompts: PromptSet, states: NDArray[np.int64]) -> tuple[Prompt, ...]:
    """Return the prompts of a frame with their states."""
    count = len(prompts.points)
    boxes = [None] * count if prompts.boxes is None else map(tuple, prompts.boxes.tolist())
    columns = prompts.points.tolist(), prompts.confidence.tolist(), states.tolist(), boxes
    return tuple(
        Prompt(x, y, confidence, PromptState(state), box)
        for (x, y), confidence, state, box in zip(*columns, strict=True)
    )
