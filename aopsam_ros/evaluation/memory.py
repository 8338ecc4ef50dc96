"""Peak memory of a configuration, measured in a process of its own.

Memory that an allocator took once is seldom given back, so that only a fresh process shows what a
configuration needs. `python -m aopsam_ros.evaluation.memory` reads a request as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aopsam_ros.errors import InferenceError


def reset_peak() -> float:
    """Let the process's high-water mark start anew; return the memory in use now, MiB.

    Where the kernel does not allow it (see proc(5)), the mark stays as high as it was.
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak() -> float:
    """Return the most resident memory of this process since `reset_peak`, MiB."""
    return _status("VmHWM")


def _status(field: str) -> float:
    """Read a field of the process's status in MiB; 0 where there is no such file."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((float(line.split()[1]) / 1024 for line in lines if line.startswith(field)), 0.0)


def measure_peak(request: Mapping[str, Any]) -> float:
    """Segment some images in a fresh process.

    Args:
        request: choice (fields of `ModelChoice`), source, options (name to value), boxes (file or
            None) and images: pairs of a data set's path and an index.

    Returns:
        the most memory during a frame above what the process had before it loaded the model, MiB.

    Raises:
        InferenceError: if that process fails.
    """
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-m", __name__]
    done = subprocess.run(
        command, input=json.dumps(request), capture_output=True, text=True, env=env, check=False
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise InferenceError(f"memory could not be measured: {last}")
    return float(done.stdout.splitlines()[-1])


def _measure_here(request: Mapping[str, Any]) -> float:
    """Do in this process what the request says."""
    from aopsam_ros.data.datasets import open_dataset
    from aopsam_ros.evaluation.model_choice import ModelChoice
    from aopsam_ros.prompting.box_file import BoxFile

    datasets = {path: open_dataset(path) for path, _ in request["images"]}
    images = [(datasets[path].name, datasets[path].read(i)) for path, i in request["images"]]
    boxes = BoxFile(Path(request["boxes"])) if request["boxes"] else None
    before = reset_peak()
    with ModelChoice(**request["choice"]).segmenter(request["source"]) as segmenter:
        segmenter.options = segmenter.options.updated(request["options"])
        reset_peak()  # loading a model may take more than running it
        for name, image in images:
            needed = boxes.find(image.name, [name]) if boxes and segmenter.needs_boxes else None
            segmenter.segment(image.rgb, boxes=needed)
    return max(0.0, peak() - before)


if __name__ == "__main__":
    print(_measure_here(json.load(sys.stdin)))
