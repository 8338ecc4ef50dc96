"""Memory of a part of the pipeline, in a process that has done nothing else (Linux).

The prompt stage's memory is what a process with the encoder and the prompt stage takes above one
with the encoder alone: weights, buffers and libraries' arenas included. The decoder is loaded in
both, as engines that check their precision need it, and runs in neither.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from aopsam_benchmarks.part import (
    benchmark_image,
    parse_size,
    part_parser,
    write_json,
)
from aopsam_ros.bundle.loading import PREDICTOR, Bundle, load_bundle
from aopsam_ros.commands.arguments import engine_options, parse_settings
from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.engines.registry import create_engine
from aopsam_ros.errors import EngineError
from aopsam_ros.evaluation.memory import peak, reset_peak
from aopsam_ros.options import SegmenterOptions
from aopsam_ros.prompting.filtering import RULES, FilterContext
from aopsam_ros.prompting.prompts import FrameInput, PromptSource
from aopsam_ros.prompting.sources import choose_source
from aopsam_ros.segmentation.segmenter import Segmenter

FRAMES = 5
MIB = (1 << 20) / 1e6  # in MB
MASKS = 8  # that filtering looks at, or as many as there are prompts
Settings = dict[str, object]  # options by name
ImageWork = Callable[[NDArray[np.uint8]], object]


def main() -> None:
    """Run `--what` on some frames; write the process's memory in MB."""
    parser = part_parser("measure memory")
    parser.add_argument("--what", choices=("encoder", "prompts", "pipeline"), default="pipeline")
    parser.add_argument("--prompts", type=int, default=0, help="budget of prompts (0: the model's)")
    arguments = parser.parse_args()
    make = {"encoder": _encoder, "prompts": _prompt_stage, "pipeline": _pipeline}[arguments.what]
    rgb = benchmark_image(*parse_size(arguments.size))
    bundle, settings = load_bundle(arguments.model), parse_settings(arguments.set)
    if arguments.prompts:
        settings |= exactly(arguments.prompts)
    work = make(bundle, engine_options(arguments), settings)
    loaded = reset_peak()  # loading a model takes more than running it
    if not loaded:
        raise EngineError("memory is measured on Linux only")
    for _ in range(FRAMES):
        work(rgb)
    write_json(arguments.out, {"loaded_mb": MIB * loaded, "peak_mb": MIB * peak()})


def _encoder(bundle: Bundle, engine: EngineOptions, settings: Settings) -> ImageWork:
    graphs = {name: graph for name, graph in bundle.graphs.items() if name != PREDICTOR}
    loaded = create_engine(dataclasses.replace(bundle, graphs=graphs), engine)
    segmenter = Segmenter(bundle, loaded, "grid16")  # a source that needs no predictor
    _, options = _prompting(bundle, settings)
    return lambda rgb: segmenter.encode(rgb, options)


def _prompt_stage(bundle: Bundle, engine: EngineOptions, settings: Settings) -> ImageWork:
    """Encoder, predictor, sampling, and one filtering with masks made up around the prompts."""
    loaded = create_engine(bundle, engine)
    segmenter = Segmenter(bundle, loaded, "predictor")
    source, options = _prompting(bundle, settings)

    def work(rgb: NDArray[np.uint8]) -> object:
        frame = segmenter.encode(rgb, options)
        confidence_map = loaded.predict(frame.image.tensor, frame.handle).confidence_map
        prompts = source.propose(FrameInput(frame.geometry, options, confidence_map))
        count = min(MASKS, len(prompts.points))
        rows, columns = frame.geometry.valid_cells(bundle.low_res_mask_size)
        context = FilterContext(
            features=lambda: segmenter.features(frame),
            geometry=frame.geometry,
            low_size=bundle.low_res_mask_size,
            masks=np.tile(np.indices((rows, columns)).sum(0) % 3 == 0, (count, 1, 1)),
            predicted_iou=np.ones(count, np.float32),
            prompts=np.arange(count),
            points=prompts.points[:count],
            remaining=prompts.points[count:],
        )
        return RULES["paper"](context, options.asf)

    return work


def _pipeline(bundle: Bundle, engine: EngineOptions, settings: Settings) -> ImageWork:
    segmenter = Segmenter(bundle, create_engine(bundle, engine))
    segmenter.options = segmenter.options.updated(settings)
    return segmenter.segment


def _prompting(bundle: Bundle, settings: Settings) -> tuple[PromptSource, SegmenterOptions]:
    """Return the predictor as a source of prompts, and its options in this bundle."""
    source = choose_source("predictor", bundle.name, has_predictor=True)
    options = bundle.options(source.defaults_group, source.defaults)
    return source, options.updated(settings)


def exactly(prompts: int) -> dict[str, object]:
    """Return options that make so many prompts, whatever the image shows."""
    return {
        "asf.confidence_threshold": 0.0,
        "asf.sampling": "fill",
        "asf.min_spacing": 4,
        "asf.max_prompts": prompts,
        "asf.filtering": "none",
    }


if __name__ == "__main__":
    main()
