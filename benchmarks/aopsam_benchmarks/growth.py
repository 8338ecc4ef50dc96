"""How a frame's time grows with prompts, image size and cameras, and keeps to a budget."""

from __future__ import annotations

import functools
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.synchronize import Barrier
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from aopsam_benchmarks.memory import exactly
from aopsam_benchmarks.part import (
    benchmark_image,
    parse_size,
    part_parser,
    summary,
    write_json,
)
from aopsam_ros.commands.arguments import engine_options, parse_settings
from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.segmentation.segmenter import Segmenter

PROMPTS = (1, 4, 16, 64, 256)
SIZES = ("320x240", "640x480", "1280x720", "1920x1080", "3840x2160")
CAMERAS = (1, 2, 4)
BUDGETS = (0.5, 0.7, 0.9)  # of the time a frame takes without one
CAMERA_SIZE = "640x480"
CAMERA_TIMEOUT_S = 300.0

_together: Barrier | None = None  # of the processes that play cameras


def load(model: str, engine: EngineOptions, settings: dict[str, object]) -> Segmenter:
    """Make a segmenter, with options by name."""
    segmenter = Segmenter.from_bundle(model, engine=engine)
    segmenter.options = segmenter.options.updated(settings)
    return segmenter


def main() -> None:
    """Measure all four; write a list of rows for each."""
    parser = part_parser("measure how time grows")
    parser.add_argument("--prompts", nargs="*", type=int, default=list(PROMPTS))
    parser.add_argument("--sizes", nargs="*", default=list(SIZES))
    parser.add_argument("--cameras", nargs="*", type=int, default=list(CAMERAS))
    parser.add_argument("--runs", type=int, default=5, help="frames of each measurement")
    parser.add_argument("--seconds", type=float, default=5.0, help="that cameras run")
    arguments = parser.parse_args()
    rgb, runs, found = benchmark_image(*parse_size(arguments.size)), arguments.runs, {}
    given = (arguments.model, engine_options(arguments), parse_settings(arguments.set))
    with load(*given) as segmenter:
        found["prompts"] = [
            {"prompts": count, **_frames(segmenter, rgb, exactly(count), runs)}
            for count in arguments.prompts
        ]
        found["budgets"] = _in_budgets(segmenter, rgb, runs)
        found["sizes"] = [
            {"size": size, **_frames(segmenter, benchmark_image(*parse_size(size)), {}, runs)}
            for size in arguments.sizes
        ]
    loading = functools.partial(load, *given)
    found["cameras"] = [
        _with_cameras(loading, count, arguments.seconds) for count in arguments.cameras
    ]
    write_json(arguments.out, found)


def _in_budgets(segmenter: Segmenter, rgb: NDArray[np.uint8], runs: int) -> list[dict[str, Any]]:
    """Give frames less time than they take, after as many without a budget."""
    whole_ms = _frames(segmenter, rgb, {"asf.time_budget_ms": 0}, runs)["frame_ms"]["median"]
    budgets = [max(1, round(share * whole_ms)) for share in BUDGETS]
    return [
        {"budget_ms": ms, **_frames(segmenter, rgb, {"asf.time_budget_ms": ms}, runs)}
        for ms in budgets
    ]


def _frames(
    segmenter: Segmenter, rgb: NDArray[np.uint8], changes: dict[str, object], runs: int
) -> dict[str, Any]:
    """Segment an image some times with changed options, after once that does not count."""
    options = segmenter.options.updated(changes)
    results = [segmenter.segment(rgb, options) for _ in range(runs + 1)][1:]
    return {
        "decoded": results[-1].prompts_decoded,
        "masks": len(results[-1].masks),
        "frame_ms": summary([result.timings_ms["total"] for result in results]),
    }


def _with_cameras(loading: Callable[[], Segmenter], count: int, seconds: float) -> dict[str, Any]:
    """Let so many processes segment at once, each with a model of its own, as nodes do."""
    context = multiprocessing.get_context("spawn")
    shared = (context.Barrier(count),)
    with ProcessPoolExecutor(count, context, _meet_at, shared) as pool:
        answers = [pool.submit(_camera, loading, seconds) for _ in range(count)]
        rates, memory = zip(*(answer.result() for answer in answers), strict=True)
    return {"cameras": count, "fps_each": sum(rates) / count, "memory_mb": sum(memory)}


def _meet_at(barrier: Barrier) -> None:
    global _together  # a barrier can be handed over only while a process starts
    _together = barrier


def _camera(loading: Callable[[], Segmenter], seconds: float) -> tuple[float, float]:
    """Segment for some seconds, together with the others; frames a second, own MB of memory."""
    rgb = benchmark_image(*parse_size(CAMERA_SIZE))
    with loading() as segmenter:
        segmenter.segment(rgb)
        if _together is not None:
            _together.wait(CAMERA_TIMEOUT_S)
        began, frames = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - began) < seconds:
            segmenter.segment(rgb)
            frames += 1
        # Each page that processes share is counted in parts; where this is not known, not at all.
        found = psutil.Process().memory_full_info()
        memory = getattr(found, "pss", found.uss)
    return frames / elapsed, memory / 1e6


if __name__ == "__main__":
    main()
