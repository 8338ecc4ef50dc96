"""Peak memory of a configuration, measured in a process of its own.

Memory that an allocator took once is seldom given back, so that only a fresh process shows what a
configuration needs.
"""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from aopsam_ros.data.datasets import open_dataset
from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.errors import InferenceError
from aopsam_ros.prompting.box_file import BoxFile
from aopsam_ros.segmentation.segmenter import Segmenter


@dataclass(frozen=True)
class MemoryTask:
    """What the process segments: images as a data set's path and an index; a file of boxes."""

    model: str
    engine: EngineOptions
    source: str
    options: Mapping[str, object]
    boxes: Path | None
    images: Sequence[tuple[Path, int]]


def measure_peak(task: MemoryTask) -> float:
    """Segment some images in a fresh process.

    Returns:
        the most memory during a frame above what the process had before it loaded the model, MiB.

    Raises:
        AopsamError: as in this process; `InferenceError` also if the process was ended.
    """
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return pool.submit(_segment, task).result()
    except BrokenProcessPool as error:
        raise InferenceError(f"memory could not be measured: {error}") from None


def _segment(task: MemoryTask) -> float:
    datasets = {path: open_dataset(path) for path, _ in task.images}
    images = [(datasets[path].name, datasets[path].read(index)) for path, index in task.images]
    boxes = BoxFile(task.boxes) if task.boxes else None
    before = reset_peak()
    with Segmenter.from_bundle(task.model, task.source, task.engine) as segmenter:
        segmenter.options = segmenter.options.updated(task.options)
        reset_peak()  # loading a model may take more than running it
        for name, image in images:
            needed = (
                boxes.find(image.name, [name]) if boxes and segmenter.source.needs_boxes else None
            )
            segmenter.segment(image.rgb, boxes=needed)
        return max(0.0, peak() - before)


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
