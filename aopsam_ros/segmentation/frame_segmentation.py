"""One encoded image to its masks: prompts, rounds of decoding, overlaps, encoding."""

from __future__ import annotations

import functools
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.bundle.loading import Bundle
from aopsam_ros.engines.base import Decoded
from aopsam_ros.errors import InputError
from aopsam_ros.geometry import FrameGeometry
from aopsam_ros.masks.merging import combine
from aopsam_ros.masks.survivors import describe_survivors
from aopsam_ros.masks.upscaling import Upscaler
from aopsam_ros.options import MaskOptions, SegmenterOptions
from aopsam_ros.prompting.boxes import Boxes
from aopsam_ros.prompting.features import FeatureMap
from aopsam_ros.prompting.previous_prompts import Earlier
from aopsam_ros.prompting.prompts import FrameInput, PromptSet, PromptSource
from aopsam_ros.results import InstanceMask, Prompt, PromptState, Segmentation
from aopsam_ros.segmentation.decoding_loop import Rounds
from aopsam_ros.segmentation.promptable import FrameEmbedding
from aopsam_ros.segmentation.stopwatch import Stopwatch
from aopsam_ros.segmentation.time_budget import Pace


class FrameModel(Protocol):
    """What a frame asks of a model; `PromptableModel` is the one that computes it."""

    @property
    def bundle(self) -> Bundle:
        """The bundle's description."""

    @property
    def largest_batch(self) -> int | None:
        """The most prompts `decode` takes at once; None: any number."""

    @property
    def pace(self) -> Pace:
        """How long its frames took lately."""

    def confidence_map(self, frame: FrameEmbedding) -> NDArray[np.float32]:
        """Return the prompt confidence map, `[P, P]`."""

    def features(self, frame: FrameEmbedding) -> FeatureMap:
        """Return the features that filtering and clustering compare."""

    def decode(self, frame: FrameEmbedding, coords: NDArray[Any], labels: NDArray[Any]) -> Decoded:
        """Decode prompts `[N, K, 2]` in source pixels, `[N, K]`."""


def segment_frame(
    model: FrameModel,
    source: PromptSource,
    frame: FrameEmbedding,
    options: SegmenterOptions,
    boxes: Boxes | None,
    stopwatch: Stopwatch,
    earlier: Earlier | None = None,
) -> Segmentation:
    """Find the masks of an encoded image; arguments and errors as `decode_frame`."""
    rounds, confidence_map = decode_frame(model, source, frame, options, boxes, stopwatch, earlier)
    decoded = stopwatch.elapsed()
    with stopwatch.stage("postprocess"):
        masks, useful = _survivors(rounds, options.mask)
    rounds.states[useful] = PromptState.DECODED
    segmentation = Segmentation(
        height=frame.geometry.height,
        width=frame.geometry.width,
        masks=masks,
        prompts=_describe_prompts(rounds.prompts, rounds.states),
        decoder_calls=rounds.decoder_calls,
        timings_ms=stopwatch.timings_ms(),
        confidence_map=_crop(confidence_map, frame.geometry),
        model=model.bundle.name,
        prompt_source=source.name,
    )
    if rounds.decoder_calls:
        model.pace.end.learn(rounds.found, stopwatch.elapsed() - decoded)
    return segmentation


def decode_frame(
    model: FrameModel,
    source: PromptSource,
    frame: FrameEmbedding,
    options: SegmenterOptions,
    boxes: Boxes | None,
    stopwatch: Stopwatch,
    earlier: Earlier | None = None,
) -> tuple[Rounds, NDArray[np.float32] | None]:
    """Propose prompts for an encoded image and decode them.

    Args:
        model: that encoded it.
        source: of the prompts.
        frame: the encoded image.
        options: of this frame.
        boxes: a detector's, for the sources that need them.
        stopwatch: of the frame.
        earlier: what to take over from the frame before, in place of a part of the source's
            prompts; sources that are not adaptive propose all of theirs, whatever came before.

    Returns:
        the rounds, with every mask that passed the filters, and the confidence map, if one was
        needed.

    Raises:
        InputError: if boxes are needed and not given.
        InferenceError: if a graph fails.
        EngineError: if the source needs a package that is not installed.
    """
    if source.needs_boxes and boxes is None:
        raise InputError(f"the prompt source '{source.name}' needs boxes")
    earlier = earlier if source.adaptive else None
    if earlier is not None and earlier.suffices:
        prompts, confidence_map = earlier.prompts(), None
    else:
        prompts, confidence_map = _proposed(model, source, frame, options, boxes, stopwatch)
        if earlier is not None:
            prompts = earlier.joined(prompts, frame.geometry)
    rounds = _rounds(model, source, frame, prompts, options, stopwatch)
    rounds.run()
    return rounds, confidence_map


def _proposed(
    model: FrameModel,
    source: PromptSource,
    frame: FrameEmbedding,
    options: SegmenterOptions,
    boxes: Boxes | None,
    stopwatch: Stopwatch,
) -> tuple[PromptSet, NDArray[np.float32] | None]:
    confidence_map = _confidence_map(model, source, frame, stopwatch)
    with stopwatch.stage("sampling"):
        features = model.features(frame) if source.needs_features else None
        seen = FrameInput(frame.geometry, options, confidence_map, features, boxes)
        return source.propose(seen), confidence_map


def _confidence_map(
    model: FrameModel, source: PromptSource, frame: FrameEmbedding, stopwatch: Stopwatch
) -> NDArray[np.float32] | None:
    if not source.needs_confidence_map:
        return None
    with stopwatch.stage("predictor"):
        return model.confidence_map(frame)


def _rounds(
    model: FrameModel,
    source: PromptSource,
    frame: FrameEmbedding,
    prompts: PromptSet,
    options: SegmenterOptions,
    stopwatch: Stopwatch,
) -> Rounds:
    return Rounds(
        decode=functools.partial(model.decode, frame),
        features=functools.partial(model.features, frame),
        prompts=prompts,
        geometry=frame.geometry,
        low_size=model.bundle.low_res_mask_size,
        largest_batch=model.largest_batch,
        stability_offset=model.bundle.stability_offset,
        options=options,
        adaptive=source.adaptive,
        stopwatch=stopwatch,
        pace=model.pace,
    )


def _survivors(
    rounds: Rounds, options: MaskOptions
) -> tuple[tuple[InstanceMask, ...], NDArray[np.int64]]:
    """Resolve overlaps, upscale and encode; return the masks and the prompts behind them."""
    valid = rounds.geometry.valid_cells(rounds.low_size)
    combined = combine(rounds.masks(), valid, options)
    upscale = Upscaler(rounds.geometry, rounds.low_size)
    prompts = rounds.prompts
    return describe_survivors(
        combined, prompts.anchors, prompts.confidence, upscale, options.min_area
    )


def _describe_prompts(prompts: PromptSet, states: NDArray[np.int64]) -> tuple[Prompt, ...]:
    rows = zip(prompts.anchors.tolist(), prompts.confidence.tolist(), states.tolist(), strict=True)
    return tuple(Prompt(x, y, confidence, PromptState(s)) for (x, y), confidence, s in rows)


def _crop(
    confidence_map: NDArray[np.float32] | None, geometry: FrameGeometry
) -> NDArray[np.float32] | None:
    if confidence_map is None:
        return None
    rows, columns = geometry.valid_cells(len(confidence_map))
    return np.ascontiguousarray(confidence_map[:rows, :columns])
