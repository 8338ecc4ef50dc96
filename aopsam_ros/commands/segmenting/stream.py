"""`aopsam segment` of frames in a row: a video, a recording, a camera."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from aopsam_ros.data.bags import is_bag
from aopsam_ros.data.dataset_writing import DatasetWriter
from aopsam_ros.data.frames import FrameSource, SourceFrame
from aopsam_ros.data.recordings import VIDEO_SUFFIXES, CameraSource, open_frames
from aopsam_ros.drawing.overlay import draw_overlay
from aopsam_ros.drawing.video import VideoFile, Window
from aopsam_ros.errors import AopsamError, DatasetError, InputError
from aopsam_ros.prompting.box_file import BoxFile
from aopsam_ros.prompting.boxes import Boxes
from aopsam_ros.results import Segmentation
from aopsam_ros.segmentation.json_format import to_json
from aopsam_ros.segmentation.segmenter import Segmenter
from aopsam_ros.streaming.stream_segmenter import StreamSegmenter
from aopsam_ros.streaming.tracker import TrackingOptions


def is_stream(path: Path) -> bool:
    """Return whether what a path names has frames in a row: a camera, a video or a recording."""
    is_video = path.suffix.lower() in VIDEO_SUFFIXES and not path.is_dir()
    return is_camera(path) or is_bag(path) or is_video


def is_camera(path: Path) -> bool:
    """Return whether a word is a camera's number."""
    word = str(path)
    return word.isdecimal() and len(word) < 10 and not path.exists()  # OpenCV takes 32 bits


def segment_stream(
    segmenter: Segmenter,
    path: Path,
    name: str,
    arguments: argparse.Namespace,
    boxes: BoxFile | None,
    dataset: DatasetWriter | None,
    originals: set[Path],
) -> tuple[str, int]:
    """Segment every frame, with ids that stay with the objects.

    A frame that cannot be used does not stop the others. Files are called `name`, and are none of
    the `originals`; without a `dataset` for labelled frames, they are JSON lines.

    Returns:
        What was found, in words, and how many frames could not be used.

    Raises:
        DatasetError: if the source cannot be opened, or none of its frames be used.
        InputError: if a window was asked for, and there is none; a file to write is an input.
        OSError: if a file cannot be written.
    """
    source: FrameSource | CameraSource
    if is_camera(path):
        source = CameraSource(int(str(path)))
    else:
        source = open_frames(path, arguments.topic, arguments.every)
    if segmenter.crop_layers(segmenter.options):
        said = "grid.crop_layers has no effect on frames in a row, whose objects are tracked"
        tqdm.write(f"aopsam: {path}: {said}", file=sys.stderr)
    stream, frames, failures, masks, milliseconds = StreamSegmenter(segmenter), 0, 0, 0, 0.0
    with contextlib.ExitStack() as stack:
        outputs = _Outputs(stack, source, name, arguments, dataset, originals)
        if isinstance(source, CameraSource):  # whose frames Ctrl-C ends, as if they were all
            stack.enter_context(contextlib.suppress(KeyboardInterrupt))
        for number, frame in enumerate(_frames(source, arguments.limit)):
            try:
                rgb = frame.read()
                given = _find(boxes, frame) if boxes else None
                found = stream.segment(rgb, number, None, given, tracking=TrackingOptions())
                go_on = outputs.write(frame, rgb, found)
            except AopsamError as error:
                failures += 1
                tqdm.write(f"aopsam: error: {path}: {frame.name}: {error}", file=sys.stderr)
                continue
            frames, masks = frames + 1, masks + len(found.masks)
            milliseconds += found.timings_ms["total"]
            if not go_on:
                break
    if not frames:
        raise DatasetError(f"{path}: no frame could be segmented")
    each = f"{masks / frames:.1f} masks and {milliseconds / frames:.0f} ms a frame"
    return f"{frames} frames, {each} -> {', '.join(outputs.names)}", failures


def _find(boxes: BoxFile, frame: SourceFrame) -> Boxes:
    """Return a frame's boxes: those of its file, or of its name where it has none."""
    return boxes.find_path(frame.file) if frame.file else boxes.find(frame.name)


def _frames(source: FrameSource | CameraSource, limit: int) -> Iterator[SourceFrame]:
    """Yield at most `limit` frames (0: all)."""
    total = 0 if isinstance(source, CameraSource) else len(source)
    frames = itertools.islice(source.frames(), limit or None)
    total = min(filter(None, (total, limit)), default=0)
    # Silent where nobody watches, as in a log.
    yield from tqdm(frames, source.name, total or None, unit="frame", disable=None)


class _Outputs:
    """What is written of each frame, and shown."""

    def __init__(
        self,
        stack: contextlib.ExitStack,
        source: FrameSource | CameraSource,
        name: str,
        arguments: argparse.Namespace,
        dataset: DatasetWriter | None,
        originals: set[Path],
    ) -> None:
        self.name, self.dataset = name, dataset
        self.is_live = isinstance(source, CameraSource)
        self.names = [str(dataset.folder if dataset else arguments.out / f"{name}.jsonl")]
        self.lines: TextIO | None = None
        self.video: VideoFile | None = None
        self.window: Window | None = None
        if arguments.show:
            self.window = stack.enter_context(contextlib.closing(Window(f"aopsam: {name}")))
        if arguments.save_video:
            file = arguments.out / f"{name}.mp4"
            if file.resolve() in originals:
                raise InputError(f"{file} is what is segmented and would be overwritten")
            self.video = stack.enter_context(contextlib.closing(VideoFile(file, source.rate)))
            self.names.append(str(file))
        if dataset is None:
            lines = (arguments.out / f"{name}.jsonl").open("w", buffering=1, encoding="utf-8")
            self.lines = stack.enter_context(lines)

    def write(self, frame: SourceFrame, rgb: NDArray[np.uint8], found: Segmentation) -> bool:
        """Write and show a frame; return whether to go on.

        First what may refuse it: nothing else is written of it then.
        """
        drawn = rgb
        if self.video or self.window:
            drawn = draw_overlay(rgb, found, show_prompts=False, show_ids=True)
        if self.video:
            self.video.write(drawn, (frame.stamp or 0) if self.is_live else 0)
        if self.dataset:
            self.dataset.add(f"{self.name}_{frame.name}", rgb, found, self.name)
        if self.lines:
            self.lines.write(to_json(found, frame.name, frame.stamp))
        return self.window is None or self.window.show(drawn)
