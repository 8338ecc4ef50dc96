"""The decoder's work, also where it runs in three parts: once a frame, prompts, masks drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aopsam_benchmarks.benchmark_frame import BenchmarkFrame
from aopsam_benchmarks.operations import Work, graph_work
from aopsam_ros.bundle.loading import DECODER
from aopsam_ros.engines.fitting import fit
from aopsam_ros.engines.split_decoder import DecodedToCodes, Shared, SplitDecoder
from aopsam_ros.masks.selection import filter_by_iou

Arrays = dict[str, NDArray[np.float32]]


def once_a_frame(frame: BenchmarkFrame) -> tuple[Callable[[], object], Callable[[], Work]] | None:
    """Return the step that makes what all prompts share, and its work; None where there is none."""
    split = _split(frame)
    if split is None:
        return None
    decoder = split.decoder
    return lambda: _share(decoder, frame), lambda: _counted(decoder, frame, _share)


def work_of_prompts(frame: BenchmarkFrame, count: int) -> Work:
    """Count what it takes to decode prompts, and to draw their masks of enough predicted IoU."""
    coords, labels = frame.some_prompts(count)
    points = {
        "point_coords": frame.geometry.to_resized(coords),
        "point_labels": np.asarray(labels, np.float32),
    }
    split = _split(frame)
    if split is None:
        embedding = frame.runtime.embedding(frame.embedding.handle)
        graph = frame.bundle.graphs[DECODER].read()
        return graph_work(graph, {"embedding": embedding, **points})

    def decode(decoder: SplitDecoder, frame: BenchmarkFrame) -> object:
        decoded = decoder.decode(split.shared, *points.values())
        return decoded.logits(*filter_by_iou(decoded.predicted_iou, frame.options.mask))

    return _counted(split.decoder, frame, decode)


def _split(frame: BenchmarkFrame) -> DecodedToCodes | None:
    decoded = frame.decode(1)
    return decoded if isinstance(decoded, DecodedToCodes) else None


def _share(decoder: SplitDecoder, frame: BenchmarkFrame) -> Shared:
    embedding = frame.runtime.embedding(frame.embedding.handle)
    return decoder.share(embedding, fit(None, frame.bundle.image_size, 0))


def _counted(
    decoder: SplitDecoder,
    frame: BenchmarkFrame,
    step: Callable[[SplitDecoder, BenchmarkFrame], object],
) -> Work:
    """Add up the graphs that a step runs."""
    found: list[Work] = []

    def run(graph: str, inputs: Any) -> Any:  # noqa: ANN401
        found.append(graph_work(frame.bundle.split_graphs[graph].read(), inputs))
        return decoder.run(graph, inputs)

    step(SplitDecoder(run, decoder.signature), frame)
    return sum(found, Work())
