"""Peak memory of a configuration, measured in a process of its own.

Memory that an allocator took once is seldom given back, so that only a fresh process shows what a
configuration needs.
"""

import contextlib
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from aopsam_ros.data.datasets import open_dataset
from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.errors import InferenceError
from aopsam_ros.evaluation.images import find_boxes
from aopsam_ros.prompting.box_file import BoxFile
from aopsam_ros.segmentation.segmenter import Segmenter


def in_fresh_process(measure: Callable[..., float], *arguments: object) -> float:
    """Return what a function measures in a process that has done nothing else.

    Raises:
        AopsamError: as in this process; `InferenceError` also if the process was ended.
    """
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return pool.submit(measure, *arguments).result()
    except BrokenProcessPool as error:
        raise InferenceError(f"memory could not be measured: {error}") from None


def peak_memory(
    model: str,
    engine: EngineOptions,
    source: str,
    options: Mapping[str, object],
    images: Sequence[tuple[Path, int]],
    boxes: Path | None = None,
) -> float:
    """Segment some images, each a data set's path and an index.

    Returns:
        the most memory during a frame above what the process had before it loaded the model, MiB.
    """
    datasets = {path: open_dataset(path) for path, _ in images}
    file = BoxFile(boxes) if boxes else None
    read = [
        (datasets[path].read(index).rgb, find_boxes(file, datasets[path], index))
        for path, index in images
    ]
    before = reset_peak()
    with Segmenter.from_bundle(model, source, engine) as segmenter:
        segmenter.options = segmenter.options.updated(options)
        reset_peak()  # loading a model may take more than running it
        for rgb, found in read:
            segmenter.segment(rgb, boxes=found)
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
