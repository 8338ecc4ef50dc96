"""A robot's recording: rosbag2 folders, MCAP files, and ROS 1 bags. ROS need not be installed."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.data.frames import SourceFrame, file_key, known_rate, numbered_frame
from aopsam_ros.errors import AopsamError, DatasetError, EngineError, InputError, first_line
from aopsam_ros.images.encodings import to_rgb

if TYPE_CHECKING:
    from rosbags.highlevel import AnyReader

SUFFIXES = (".mcap", ".db3", ".bag")
METADATA = "metadata.yaml"
_TIMED = 31  # messages, at the beginning, whose rate is taken for the topic's
IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")


def is_bag(path: Path) -> bool:
    """Return whether a path looks like a recording."""
    return (path / METADATA).is_file() or (path.is_file() and path.suffix in SUFFIXES)


class BagSource:
    """Every `every`-th image of a topic of a rosbag2 folder, or a file of one; see `open_frames`.

    Raises:
        DatasetError: if it cannot be read, or has no such images.
        EngineError: if rosbags is not installed.
    """

    def __init__(self, path: Path, topic: str, every: int) -> None:
        self.name, self.path, self.every = path.resolve().stem, path, every
        with _opened(path) as reader:
            counts = _image_topics(reader)
            self.topic = _choose(path, topic, counts)
            stamps = [stamp for _, stamp, _ in islice(self._messages(reader), _TIMED)]
        self._count = counts[self.topic]
        self.rate = known_rate(usual_rate(stamps) / every)
        if not self._count:
            raise DatasetError(f"{path}: no image was recorded on {self.topic}")

    def __len__(self) -> int:
        return math.ceil(self._count / self.every)

    def key(self) -> str:
        """See `FrameSource`."""
        files = sorted(self.path.iterdir()) if self.path.is_dir() else [self.path]
        return file_key([file for file in files if file.is_file()], self.topic, self.every)

    def frames(self) -> Iterator[SourceFrame]:
        """See `FrameSource`."""
        with _opened(self.path) as reader:
            for number, (connection, stamp, raw) in enumerate(self._messages(reader)):
                if number % self.every == 0:
                    read = functools.partial(_read, reader, raw, connection.msgtype)
                    yield numbered_frame(number, read, self.every, stamp)

    def _messages(self, reader: AnyReader) -> Iterator[tuple[Any, int, bytes]]:
        """Yield the topic's messages: connection, nanoseconds, bytes."""
        yield from reader.messages([c for c in reader.connections if c.topic == self.topic])


def usual_rate(stamps: Sequence[int]) -> float:
    """Return messages a second, 0 for fewer than two; gaps between them do not count."""
    intervals = np.diff(stamps)
    return 1e9 / max(1.0, float(np.median(intervals))) if len(intervals) else 0.0


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[AnyReader]:
    try:
        from rosbags.highlevel import AnyReader
        from rosbags.typesys import Stores, get_typestore
    except ImportError as error:
        raise EngineError(
            f"{path}: reading recordings needs rosbags ({error}): `make setup EXTRAS=record` or"
            " `pip install .[record]`"
        ) from error
    # Older recordings do not describe their messages; images are the same in every ROS 2.
    store = get_typestore(Stores.ROS2_HUMBLE)
    try:
        with AnyReader([path], default_typestore=store) as reader:
            yield reader
    except AopsamError:
        raise
    except Exception as error:  # of its own, of YAML, SQLite and zstd, and of unpacking
        reason = first_line(error)
        raise DatasetError(f"{path}: not a readable recording ({reason})") from error


def _image_topics(reader: AnyReader) -> dict[str, int]:
    """Count the messages of every topic with images."""
    counts: dict[str, int] = {}
    for connection in reader.connections:
        if connection.msgtype in IMAGE_TYPES:
            counts[connection.topic] = counts.get(connection.topic, 0) + connection.msgcount
    return counts


def _choose(path: Path, topic: str, counts: Mapping[str, int]) -> str:
    listed = ", ".join(sorted(counts))
    if not counts:
        raise DatasetError(f"{path}: no topic of {' or '.join(IMAGE_TYPES)} in this recording")
    if not topic and len(counts) > 1:
        raise DatasetError(f"{path}: several topics have images, choose with --topic: {listed}")
    if topic and topic not in counts:
        raise DatasetError(f"{path}: no images on topic {topic}; there are images on {listed}")
    return topic or listed


def _read(reader: AnyReader, raw: bytes, kind: str) -> NDArray[np.uint8]:
    try:
        message: Any = reader.deserialize(raw, kind)
    except Exception as error:  # whatever a message that is cut short leads to
        raise InputError(f"a message of {kind} cannot be read") from error
    return to_rgb(message)
