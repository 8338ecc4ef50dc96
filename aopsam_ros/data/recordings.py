"""Opening folders of images, videos and recordings of a robot."""

import contextlib
import functools
import hashlib
import itertools
import math
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.data.bags import BagSource, is_bag
from aopsam_ros.data.frames import FrameSource, SourceFrame, file_key, known_rate, numbered_frame
from aopsam_ros.data.shards import TarFrames, is_shard
from aopsam_ros.errors import DatasetError, InputError, OptionError
from aopsam_ros.images.files import IMAGE_SUFFIXES, images_in, opencv_name, read_bytes, read_rgb

# Listed here: what `mimetypes` knows depends on the machine. OpenCV may read others, too.
VIDEO_SUFFIXES = (
    ".3gp", ".asf", ".avi", ".flv", ".m1v", ".m2ts", ".m4v", ".mjpeg", ".mkv", ".mov", ".mp4",
    ".mpe", ".mpeg", ".mpg", ".mts", ".ogv", ".qt", ".ts", ".vob", ".webm", ".wmv", ".y4m",
)  # fmt: skip


def open_frames(path: str | Path, topic: str = "", every: int = 1) -> FrameSource:
    """Open a folder of images, a tar file of them, a video or a recording.

    Of a recording, "" takes the only topic with images there is; of it or a video, every
    `every`-th frame is taken.

    Raises:
        DatasetError: if there is nothing, or nothing that can be read.
    """
    path = Path(path)
    if every < 1:
        raise OptionError("--every must be at least 1")
    if not path.exists():
        raise DatasetError(f"{path}: no such folder, video or recording")
    if is_bag(path):
        return BagSource(path, topic, every)
    if is_shard(path):
        return TarFrames(path)
    return ImageFolder(path) if path.is_dir() else Video(path, every)


class ImageFolder:
    """Every image that lies in a folder, each a group of its own."""

    def __init__(self, path: Path) -> None:
        self.path, self.name, self.rate = path.resolve(), path.resolve().name, 0.0
        self.files = images_in(path)
        if not self.files:
            raise DatasetError(f"{path}: no image in this folder ({', '.join(IMAGE_SUFFIXES)})")

    def __len__(self) -> int:
        return len(self.files)

    def key(self) -> str:
        """Return the folder's path; the frames' names tell what the images show."""
        return str(self.path)

    def frames(self) -> Iterator[SourceFrame]:
        """See `FrameSource`."""
        for file in self.files:
            read = functools.partial(read_rgb, file)
            yield SourceFrame(f"{file.stem}-{_content(file)}", file.stem, read, file=file)


def _content(file: Path) -> str:
    """Return a short hash of a file, or a word where it cannot be read: the frame then says why."""
    try:
        return hashlib.sha256(read_bytes(file)).hexdigest()[:8]
    except InputError:
        return "unreadable"


class Video:
    """Every `every`-th frame of a video, in any format that this OpenCV reads."""

    def __init__(self, path: Path, every: int) -> None:
        self.name, self.path, self.every = path.stem, path, every
        with self._opened() as capture:
            self._count = int(max(0, capture.get(cv2.CAP_PROP_FRAME_COUNT)))
            self.rate = known_rate(capture.get(cv2.CAP_PROP_FPS) / every)
            if not capture.grab():
                raise DatasetError(f"{path}: no frame of this video can be read")

    def _opened(self) -> contextlib.AbstractContextManager[cv2.VideoCapture]:
        return _opened(
            opencv_name(self.path),
            f"{self.path}: neither a video that OpenCV can read, nor a folder of images, nor a"
            " recording (a folder with metadata.yaml, .mcap, .db3, .bag)",
        )

    def __len__(self) -> int:
        return math.ceil(self._count / self.every)

    def key(self) -> str:
        """See `FrameSource`."""
        return file_key([self.path], self.every)

    def frames(self) -> Iterator[SourceFrame]:
        """See `FrameSource`; each frame must be read before the next one is taken."""
        with self._opened() as capture:
            for number in itertools.count():
                if not capture.grab():  # finds the next frame, without decoding it
                    return
                if number % self.every == 0:
                    stamp = int(1e9 * number / (self.rate * self.every)) if self.rate else None
                    read = functools.partial(_decode, capture)
                    yield numbered_frame(number, read, self.every, stamp)


class CameraSource:
    """A camera of this machine, by OpenCV's number; every frame is the newest there is."""

    def __init__(self, number: int) -> None:
        self.name, self.number = f"camera{number}", number
        with self._opened() as capture:
            self.rate = known_rate(capture.get(cv2.CAP_PROP_FPS))

    def _opened(self) -> contextlib.AbstractContextManager[cv2.VideoCapture]:
        return _opened(self.number, f"camera {self.number} cannot be opened")

    def frames(self) -> Iterator[SourceFrame]:
        """Yield frames until the caller has enough, or the camera is unplugged."""
        with self._opened() as capture:
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
            for number in itertools.count():
                if not capture.grab():
                    raise DatasetError(f"camera {self.number} gives no more images")
                read = functools.partial(_decode, capture)
                yield SourceFrame(f"frame_{number:06}", self.name, read, time.time_ns())


@contextlib.contextmanager
def _opened(source: str | int, complaint: str) -> Iterator[cv2.VideoCapture]:
    capture = cv2.VideoCapture(source)
    try:
        if not capture.isOpened():
            raise DatasetError(complaint)
        yield capture
    finally:
        capture.release()


def _decode(capture: cv2.VideoCapture) -> NDArray[np.uint8]:
    is_whole, bgr = capture.retrieve()
    if not is_whole:
        raise InputError("the frame cannot be decoded")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
