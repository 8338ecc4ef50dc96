"""Memory of a part of the pipeline, in a process that has done nothing else (Linux).

The prompt stage's memory is what a process with the encoder and the prompt stage takes above one
with the encoder alone: weights, buffers and libraries' arenas included.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aopsam_benchmarks.part import engine_of, part_parser, write_json
from aopsam_benchmarks.pictures import parse_size, picture
from aopsam_ros.evaluation.memory import ProcessMemory
from aopsam_ros.promptable import PromptableModel
from aopsam_ros.prompting.choosing import choose_source
from aopsam_ros.prompting.filtering import RULES, Evidence, eliminated
from aopsam_ros.prompting.prompts import FrameInput
from aopsam_ros.runtime.bundle import ENCODER, PREDICTOR, Bundle, load_bundle
from aopsam_ros.runtime.engines import create_runtime
from aopsam_ros.segmenter import Segmenter
from aopsam_ros.stopwatch import Stopwatch

FRAMES = 5
MIB = (1 << 20) / 1e6  # in MB
MASKS = 8  # that filtering looks at
Work = Callable[[NDArray[np.uint8]], object]


def main() -> int:
    """Run `--what` on some frames; write the process's memory in MB."""
    parser = part_parser("measure memory")
    parser.add_argument("--what", choices=("encoder", "prompts", "pipeline"), default="pipeline")
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--prompts", type=int, default=0, help="budget of prompts (0: the model's)")
    arguments = parser.parse_args()
    make = {"encoder": _encoder, "prompts": _prompt_stage, "pipeline": _pipeline}[arguments.what]
    rgb = picture(*parse_size(arguments.size))
    bundle = load_bundle(arguments.model)
    work = make(bundle, engine_of(arguments), arguments.prompts)
    memory = ProcessMemory()
    loaded = memory.reset()  # loading a model takes more than running it
    for _ in range(FRAMES):
        work(rgb)
    write_json(arguments.out, {"loaded_mb": MIB * loaded, "peak_mb": MIB * memory.peak()})
    return 0


def _only(bundle: Bundle, *graphs: str) -> Bundle:
    kept = {name: graph for name, graph in bundle.graphs.items() if name in graphs}
    return dataclasses.replace(bundle, graphs=kept, split_graphs={})


def _encoder(bundle: Bundle, engine: dict[str, Any], prompts: int) -> Work:  # noqa: ARG001
    runtime = create_runtime(_only(bundle, ENCODER), **engine)
    model = PromptableModel(bundle, runtime)
    return lambda rgb: model.encode(rgb, Stopwatch())


def _prompt_stage(bundle: Bundle, engine: dict[str, Any], prompts: int) -> Work:  # noqa: ARG001
    """Encoder, predictor, sampling, and one filtering with masks made up around the prompts."""
    runtime = create_runtime(_only(bundle, ENCODER, PREDICTOR), **engine)
    model = PromptableModel(bundle, runtime)
    source = choose_source("predictor", bundle.name, runtime.has_predictor)
    options = bundle.options(source.defaults_group, source.mask_options)

    def work(rgb: NDArray[np.uint8]) -> object:
        frame = model.encode(rgb, Stopwatch())
        confidence_map = model.confidence_map(frame)
        prompts = source.propose(FrameInput(frame.geometry, options, confidence_map))
        rows, columns = frame.geometry.valid_cells(bundle.low_res_mask_size)
        evidence = Evidence(
            features=model.features(frame),
            geometry=frame.geometry,
            low_size=bundle.low_res_mask_size,
            masks=np.tile(np.indices((rows, columns)).sum(0) % 3 == 0, (MASKS, 1, 1)),
            predicted_iou=np.ones(MASKS, np.float32),
            prompts=np.arange(MASKS),
            points=prompts.anchors[:MASKS],
            remaining=prompts.anchors[MASKS:],
        )
        return eliminated(RULES["paper"], evidence, options.asf)

    return work


def _pipeline(bundle: Bundle, engine: dict[str, Any], prompts: int) -> Work:
    segmenter = Segmenter(bundle, create_runtime(bundle, **engine))
    if prompts:
        segmenter.options = segmenter.options.updated(exactly(prompts))
    return segmenter.segment


def exactly(prompts: int) -> dict[str, object]:
    """Return options that make so many prompts, whatever the picture shows."""
    return {
        "asf.confidence_threshold": 0.0,
        "asf.sampling": "fill",
        "asf.min_spacing": 4,
        "asf.max_prompts": prompts,
        "asf.filtering": "none",
    }


if __name__ == "__main__":
    sys.exit(main())
