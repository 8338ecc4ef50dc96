"""Times a bundle's graphs with pyperf, each in processes of its own, beside their floors."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyperf
from numpy.typing import NDArray

from aopsam_benchmarks.floors import count_multiplications
from aopsam_benchmarks.part import add_model_arguments, benchmark_image, parse_size
from aopsam_ros.bundle.loading import (
    DECODER,
    ENCODER,
    FRAME_PART,
    MASK_PART,
    PREDICTOR,
    PROMPT_PART,
    Bundle,
    load_bundle,
)
from aopsam_ros.bundle.signatures import HAS_MASK_INPUT, MASK_INPUT
from aopsam_ros.commands.arguments import engine_options
from aopsam_ros.engines.base import all_logits
from aopsam_ros.engines.engine import EncodedImage, Engine
from aopsam_ros.engines.registry import create_engine
from aopsam_ros.geometry import preprocess
from aopsam_ros.prompting.grid import grid_points

BATCHES = (1, 4, 8, 16, 64)  # prompts decoded at once
PASSED_ON = ("model", "engine", "precision", "threads", "size", "only")  # to pyperf's processes


@dataclass(frozen=True)
class GraphRun:
    """One run of a graph on an image: `run` does it, `count` its multiplications."""

    name: str
    run: Callable[[], object]
    count: Callable[[], int]


def graph_runs(
    bundle: Bundle, engine: Engine, rgb: NDArray[np.uint8], batches: tuple[int, ...] = BATCHES
) -> list[GraphRun]:
    """Return a run of the encoder, the predictor where there is one, and decoders of some batches.

    Decoding includes all three masks of each prompt, and not what all prompts of an image share.
    """
    image = preprocess(rgb, bundle.image_size, bundle.mean, bundle.std, bundle.resize)
    handle = engine.encode(image.tensor)
    arrays = {"image": image.tensor, "embedding": engine.embedding(handle)}

    def count(graph: str) -> int:
        return count_multiplications(bundle.graphs[graph].read(), arrays)[0]

    runs = [GraphRun("encoder", lambda: engine.encode(image.tensor), lambda: count(ENCODER))]
    if engine.has_predictor:
        runs.append(
            GraphRun(
                "predictor",
                lambda: engine.predict(image.tensor, handle),
                lambda: count(PREDICTOR),
            )
        )
    for size in batches:
        if size <= (engine.largest_batch or size):
            points = image.geometry.to_resized(grid_points(size, *rgb.shape[:2])[:size, None])
            runs.append(_decoder_run(bundle, engine, handle, arrays["embedding"], points))
    return runs


def _decoder_run(
    bundle: Bundle,
    engine: Engine,
    handle: EncodedImage,
    embedding: NDArray[np.float32],
    points: NDArray[np.float32],
) -> GraphRun:
    labels = np.ones(points.shape[:2], np.float32)
    return GraphRun(
        f"decoder, {len(points)} at once",
        lambda: all_logits(engine.decode(handle, points, labels)),
        lambda: decoder_multiplications(bundle, embedding, points, labels),
    )


def decoder_multiplications(
    bundle: Bundle,
    embedding: NDArray[np.float32],
    points: NDArray[np.float32],
    labels: NDArray[np.float32],
) -> int:
    """Count what it takes to decode prompts `[N, K, 2]` and to draw their masks.

    Where the decoder is in parts, what all prompts of an image share is left out.
    """
    count, side = len(points), bundle.low_res_mask_size
    no_masks = {
        MASK_INPUT: np.zeros((count, 1, side, side), np.float32),
        HAS_MASK_INPUT: np.zeros(count, np.float32),
    }
    arrays = {"embedding": embedding, "point_coords": points, "point_labels": labels, **no_masks}
    if not bundle.split_graphs:
        return count_multiplications(bundle.graphs[DECODER].read(), arrays)[0]
    total = 0
    for part in (FRAME_PART, PROMPT_PART, MASK_PART):
        count, outputs = count_multiplications(bundle.split_graphs[part].read(), arrays)
        total += 0 if part == FRAME_PART else count
        arrays |= outputs
    return total


def graph_rows(times: Path, counts: Mapping[str, int], rate: float | None) -> list[dict[str, Any]]:
    """Join pyperf's file with the graphs' multiplications, in pyperf's order.

    Args:
        times: JSON of pyperf.
        counts: multiplications by graph.
        rate: the machine's best, multiplications a second; None where it says nothing about the
            engine.

    Returns:
        a graph's milliseconds, how much they scatter, and the least that it could take.
    """
    rows = []
    for bench in pyperf.BenchmarkSuite.load(str(times)).get_benchmarks():
        name, seconds = bench.get_name(), bench.median()
        scatter = bench.median_abs_dev() if bench.get_nvalue() > 1 else 0.0
        floor = counts[name] / rate if rate else None
        rows.append(
            {
                "graph": name,
                "ms": 1e3 * seconds,
                "scatter_ms": 1e3 * scatter,
                "gflop": 2e-9 * counts[name],
                "floor_ms": None if floor is None else 1e3 * floor,
                "times_floor": seconds / floor if floor else None,
            }
        )
    return rows


def main() -> None:
    """Time the graphs that `--only` names, or all; write device and multiplications to `--work`."""
    runner = pyperf.Runner(
        program_args=("-m", "aopsam_benchmarks.graphs"), add_cmdline_args=_pass_on
    )
    add_model_arguments(runner.argparser)
    runner.argparser.add_argument("--only", nargs="*", default=[])
    runner.argparser.add_argument("--work", type=Path)
    arguments = runner.parse_args()
    bundle = load_bundle(arguments.model)
    engine = create_engine(bundle, engine_options(arguments))
    runs = graph_runs(bundle, engine, benchmark_image(*parse_size(arguments.size)))
    wanted = [one for one in runs if not arguments.only or one.name in arguments.only]
    for one in wanted:
        runner.bench_time_func(one.name, _timed(one.run))
    if not arguments.worker and arguments.work:
        counts = {one.name: one.count() for one in wanted}
        found = {"device": engine.device, "multiplications": counts}
        arguments.work.write_text(json.dumps(found) + "\n", encoding="utf-8")


def _pass_on(command: list[str], arguments: argparse.Namespace) -> None:
    """Give a process that pyperf starts the options of this one."""
    for name in PASSED_ON:
        value = getattr(arguments, name)
        if value != []:
            command.extend([f"--{name}", *map(str, value if isinstance(value, list) else [value])])


def _timed(run: Callable[[], object]) -> Callable[[int], float]:
    """Return what pyperf calls for the seconds of so many runs; the first call warms up."""

    def seconds(loops: int) -> float:
        run()
        began = time.perf_counter()
        for _ in range(loops):
            run()
        return time.perf_counter() - began

    return seconds


if __name__ == "__main__":
    main()
