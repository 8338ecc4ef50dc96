"""What one configuration needs in memory, measured in a process of its own.

`python -m aopsam_ros.evaluation.memory_probe` reads a request as JSON and writes the figures.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aopsam_ros.errors import InferenceError
from aopsam_ros.evaluation.automatic import PROMPT_STAGES
from aopsam_ros.evaluation.memory import MemoryStopwatch, ProcessMemory, device_memory


@dataclass(frozen=True)
class MemoryFigures:
    """Peak memory over some photographs, MiB.

    Attributes:
        prompt_mb: The largest growth while prompts were made (predictor, sampling, filtering).
        run_mb: The highest during a frame, less what the process had before it loaded the model.
        device_prompt_mb: As `prompt_mb` on the GPU; None where the engine does not run on one.
        device_run_mb: As `run_mb` on the GPU.
    """

    prompt_mb: float
    run_mb: float
    device_prompt_mb: float | None = None
    device_run_mb: float | None = None


def probe(request: Mapping[str, Any]) -> MemoryFigures:
    """Measure in a fresh process.

    Args:
        request: choice (fields of `ModelChoice`), source, options (name to value), boxes (file or
            None) and images: pairs of a data set's path and an index.

    Raises:
        InferenceError: if that process fails.
    """
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        env=env,
        check=False,
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise InferenceError(f"memory could not be measured: {last}")
    return MemoryFigures(**json.loads(done.stdout.splitlines()[-1]))


def measure_here(request: Mapping[str, Any]) -> MemoryFigures:
    """Do in this process what the request says; see `probe`."""
    from aopsam_ros.data.datasets import open_dataset
    from aopsam_ros.evaluation.model_choice import ModelChoice
    from aopsam_ros.prompting.box_file import BoxFile

    names = {path: open_dataset(path) for path, _ in request["images"]}
    images = [(names[path].name, names[path].read(index)) for path, index in request["images"]]
    boxes = BoxFile(Path(request["boxes"])) if request["boxes"] else None
    process, gpu = ProcessMemory(), device_memory()
    before = [process.reset(), gpu.reset() if gpu else 0.0]
    with ModelChoice(**request["choice"]).segmenter(request["source"]) as segmenter:
        segmenter.options = segmenter.options.updated(request["options"])
        on_gpu = segmenter.device.startswith("cuda")
        watch = MemoryStopwatch([process, gpu] if gpu and on_gpu else [process])
        for name, image in images:
            needed = boxes.find(image.name, [name]) if boxes and segmenter.needs_boxes else None
            segmenter.segment(image.rgb, boxes=needed, stopwatch=watch)
    return _figures(watch, before)


def _figures(watch: MemoryStopwatch, before: list[float]) -> MemoryFigures:
    prompt = [max(growth[stage] for stage in PROMPT_STAGES) for growth in watch.growth]
    run = [max(0.0, peak - start) for peak, start in zip(watch.highest, before, strict=False)]
    if len(run) == 1:
        return MemoryFigures(prompt[0], run[0])
    return MemoryFigures(prompt[0], run[0], prompt[1], run[1])


if __name__ == "__main__":
    print(json.dumps(asdict(measure_here(json.load(sys.stdin)))))
