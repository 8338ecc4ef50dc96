"""The stages of the pipeline: what to time, and what each cannot do without."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from aopsam_benchmarks.benchmark_frame import FILTERED_BATCH, BenchmarkFrame
from aopsam_benchmarks.decoder_parts import once_a_frame, work_of_prompts
from aopsam_benchmarks.operations import Work, graph_work
from aopsam_ros.bundle.loading import ENCODER, PREDICTOR
from aopsam_ros.geometry import preprocess
from aopsam_ros.masks.selection import (
    LowResMasks,
    filter_by_iou,
    filter_by_stability,
    stability_score,
)
from aopsam_ros.prompting.filtering import RULES

BATCHES = (1, 4, 8, 16, 64)
DEFAULT_RULE = "paper"  # is timed where a bundle's own options filter nothing
FLOAT, WORD = 4, 4  # bytes


@dataclass(frozen=True)
class Stage:
    """A step that can be timed by itself.

    Args:
        name: in tables.
        run: takes the step once, on a frame whose earlier steps are done.
        work: counts what it cannot do without; takes a while for graphs.
        amount: what it worked on, for people.
    """

    name: str
    run: Callable[[], object]
    work: Callable[[], Work]
    amount: Callable[[], str] = lambda: ""


def stages_of(frame: BenchmarkFrame, batches: tuple[int, ...] = BATCHES) -> list[Stage]:
    """Return the stages in their order; those of a predictor only where there is one."""
    stages = [
        Stage("preprocess", functools.partial(_preprocess, frame), lambda: _preprocess_work(frame)),
        Stage(
            "encoder",
            lambda: frame.runtime.encode(frame.embedding.image.tensor),
            lambda: _graph(frame, ENCODER),
        ),
    ]
    if frame.source.needs_confidence_map:
        stages.append(
            Stage(
                "predictor",
                lambda: frame.runtime.predict(frame.embedding.image.tensor, frame.embedding.handle),
                lambda: _graph(frame, PREDICTOR),
            )
        )
    stages.append(_sampling(frame))
    shared = once_a_frame(frame)
    if shared is not None:
        stages.append(Stage("decoder, once a frame", *shared))
    largest = frame.runtime.largest_batch
    stages += [_decoder(frame, size) for size in batches if size <= (largest or size)]
    return [*stages, _filtering(frame), _selection(frame), *_after_decoding(frame)]


def _preprocess(frame: BenchmarkFrame) -> None:
    preprocess(frame.rgb, frame.bundle.image_size, frame.bundle.mean, frame.bundle.std)


def _preprocess_work(frame: BenchmarkFrame) -> Work:
    return Work(moved=frame.rgb.nbytes + frame.embedding.image.tensor.nbytes)


def _sampling(frame: BenchmarkFrame) -> Stage:
    def run() -> object:
        return frame.source.propose(frame.seen)

    def work() -> Work:
        seen = 0 if frame.confidence_map is None else frame.confidence_map.nbytes
        return Work(moved=seen + frame.prompts.points.nbytes)

    return Stage("sampling", run, work, lambda: f"{len(frame.prompts.points)} prompts")


def _decode(frame: BenchmarkFrame, size: int) -> LowResMasks:
    """Decode prompts, and fetch or draw the masks of enough predicted IoU."""
    decoded = frame.decode(size)
    rows, columns = filter_by_iou(decoded.predicted_iou, frame.options.mask)
    logits, iou = decoded.logits(rows, columns), decoded.predicted_iou[rows, columns]
    return LowResMasks(logits, iou, np.ones_like(iou), rows, columns)


def _decoder(frame: BenchmarkFrame, size: int) -> Stage:
    return Stage(
        f"decoder, {size} at once",
        lambda: _decode(frame, size),
        lambda: work_of_prompts(frame, size),
    )


def _graph(frame: BenchmarkFrame, name: str) -> Work:
    """Count the encoder or the predictor on the frame's own tensors."""
    inputs: dict[str, Any] = {"image": frame.embedding.image.tensor}
    if name == PREDICTOR:
        inputs["embedding"] = frame.runtime.embedding(frame.embedding.handle)
    return graph_work(frame.bundle.graphs[name].read(), inputs)


def _filtering(frame: BenchmarkFrame) -> Stage:
    """One batch's filtering, and the features that all batches of a frame share."""
    options = frame.options.asf
    rule = RULES.get(options.filtering) or RULES[DEFAULT_RULE]

    def run() -> object:
        if rule.needs_features:
            frame.segmenter.features(frame.embedding)
        return rule.drop(frame.context, options)

    def work() -> Work:
        masks, channels = len(frame.context.masks), frame.bundle.similarity_channels
        cells = frame.features.rows * frame.features.columns
        seen = frame.context.masks.nbytes + FLOAT * channels * cells
        # Pooling and comparing are a product each, of every mask with every cell's feature.
        return Work(macs=2.0 * masks * cells * channels, moved=seen)

    return Stage(
        "filtering",
        run,
        work,
        lambda: f"{len(frame.context.masks)} masks, {len(frame.context.remaining)} prompts",
    )


def _selection(frame: BenchmarkFrame) -> Stage:
    """Of one batch: which masks are stable."""
    size = min(FILTERED_BATCH, frame.runtime.largest_batch or FILTERED_BATCH)

    @functools.lru_cache(maxsize=1)
    def decoded() -> LowResMasks:
        return _decode(frame, size)

    def run() -> object:
        masks, (rows, columns) = decoded(), frame.valid
        shown = masks.logits[:, :rows, :columns]
        stability = stability_score(shown, frame.bundle.stability_offset)
        masks = replace(masks, stability=stability)
        return filter_by_stability(masks, frame.options.mask.stability_threshold)

    def work() -> Work:
        return Work(moved=_valid_bytes(frame, len(decoded())))

    return Stage("selection", run, work, lambda: f"{size} prompts")


def _after_decoding(frame: BenchmarkFrame) -> list[Stage]:
    """Once a frame: from the masks that passed to the message."""

    def kept() -> str:
        return f"{len(frame.kept)} masks"

    stages = [
        Stage(
            "overlaps",
            frame.combine,
            lambda: Work(moved=_valid_bytes(frame, len(frame.found))),
            lambda: f"{len(frame.found)} masks",
        ),
        Stage(
            "upscaling and run lengths",
            lambda: frame.upscaler(frame.kept.logits),
            lambda: Work(moved=_valid_bytes(frame, len(frame.kept)) + _count_bytes(frame)),
            kept,
        ),
    ]
    if importlib.util.find_spec("rclpy") is not None:
        stages.append(_message(frame))
    return stages


def _valid_bytes(frame: BenchmarkFrame, masks: int) -> float:
    """Return the bytes of so many masks' logits that show the image."""
    rows, columns = frame.valid
    return float(masks * rows * columns * FLOAT)


def _count_bytes(frame: BenchmarkFrame) -> float:
    return float(sum(mask.counts.size * WORD for mask in frame.segmentation.masks))


def _message(frame: BenchmarkFrame) -> Stage:
    from std_msgs.msg import Header

    from aopsam_ros.ros.messages.segmentations import mask_array

    return Stage(
        "message",
        lambda: mask_array(frame.segmentation, Header()),
        lambda: Work(moved=2.0 * _count_bytes(frame)),
        lambda: f"{len(frame.segmentation.masks)} masks",
    )
