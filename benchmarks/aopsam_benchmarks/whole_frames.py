"""Times whole frames: AoP-SAM's prompts and SAM's grid, on one engine, in turns.

In turns, so that a machine that slows down or speeds up does so for all. The pipeline's own
stopwatch is read: frames take far longer than it does. Where the engine runs the decoder in parts,
the grid is timed a second time with the decoder in one piece, as others run it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aopsam_benchmarks.part import (
    benchmark_image,
    parse_size,
    part_parser,
    summary,
    write_json,
)
from aopsam_ros.bundle.loading import Bundle, load_bundle
from aopsam_ros.commands.arguments import engine_options, parse_settings
from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.engines.registry import create_engine
from aopsam_ros.results import Segmentation
from aopsam_ros.segmentation.segmenter import Segmenter

ADAPTIVE_PER_ROUND = 4  # frames with AoP-SAM's prompts to one with the grid's
IN_PARTS = ("onnxruntime", "openvino")  # engines that run the decoder so, on a processor
PROMPT_STAGES = ("predictor", "sampling", "filtering")


def main() -> None:
    """Time `--rounds` rounds of each source; write a row for each."""
    parser = part_parser("time whole frames")
    parser.add_argument("--grid", type=int, default=32, help="points a side of SAM's grid")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    segmenters = contenders(
        load_bundle(arguments.model),
        engine_options(arguments),
        f"grid{arguments.grid}",
        parse_settings(arguments.set),
    )
    found = in_turns(segmenters, benchmark_image(*parse_size(arguments.size)), arguments.rounds)
    rows = [describe(name, segmenters[name], results) for name, results in found.items()]
    write_json(arguments.out, rows)


def contenders(
    bundle: Bundle,
    engine: EngineOptions,
    grid: str,
    settings: Mapping[str, Any],
) -> dict[str, Segmenter]:
    """Make what is compared: AoP-SAM's prompts first, then the grid's.

    Args:
        bundle: of all.
        engine: that runs them.
        grid: the grid's name as a prompt source.
        settings: options of both; they may serve the grid as well, which is then compared with the
            bundle's own, too.
    """
    runtime = create_engine(bundle, engine)
    segmenters = {source: Segmenter(bundle, runtime, source) for source in ("auto", grid)}
    for segmenter in segmenters.values():
        segmenter.options = segmenter.options.updated(settings)
    if settings:
        segmenters[f"{grid}, the bundle's options"] = Segmenter(bundle, runtime, grid)
    if bundle.split_graphs and runtime.name in IN_PARTS and runtime.device == "cpu":
        whole = dataclasses.replace(bundle, split_graphs={})  # one graph, and all masks drawn
        name = f"{grid}, the bundle's options, decoder in one piece"
        segmenters[name] = Segmenter(whole, create_engine(whole, engine), grid)
    return segmenters


def in_turns(
    segmenters: dict[str, Segmenter], rgb: NDArray[np.uint8], rounds: int
) -> dict[str, list[Segmentation]]:
    """Segment with each in turn, adaptive sources a few times; a few prompts warm up."""
    for segmenter in segmenters.values():
        frame = segmenter.encode(rgb)
        segmenter.decode(frame, np.zeros((1, 1, 2)), np.ones((1, 1)))
    next(iter(segmenters.values())).segment(rgb)
    found: dict[str, list[Segmentation]] = {name: [] for name in segmenters}
    for _ in range(rounds):
        for name, segmenter in segmenters.items():
            repeats = 1 if name.startswith("grid") else ADAPTIVE_PER_ROUND
            found[name] += [segmenter.segment(rgb) for _ in range(repeats)]
    return found


def describe(name: str, segmenter: Segmenter, results: list[Segmentation]) -> dict[str, Any]:
    """Return a source's row: milliseconds a frame and a stage, masks, prompts decoded."""
    stages = {
        name: summary([result.timings_ms[name] for result in results])["median"]
        for name in results[0].timings_ms
    }
    return {
        "prompts": segmenter.source.name if name == "auto" else name,
        "engine": segmenter.engine.name,
        "frame_ms": summary([result.timings_ms["total"] for result in results]),
        "stages_ms": stages,
        "prompt_share": sum(stages[name] for name in PROMPT_STAGES) / stages["total"],
        "masks": len(results[-1].masks),
        "prompts_decoded": results[-1].prompts_decoded,
    }


if __name__ == "__main__":
    main()
