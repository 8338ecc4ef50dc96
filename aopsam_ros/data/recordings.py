"""Opening folders of images, videos and recordings of a robot."""

from __future__ import annotations

from pathlib import Path

from aopsam_ros.data.bags import Bag, is_bag
from aopsam_ros.data.frames import FrameSource
from aopsam_ros.data.image_files import ImageFolder, Video
from aopsam_ros.errors import DatasetError, OptionError


def open_frames(path: str | Path, topic: str = "", every: int = 1) -> FrameSource:
    """Open a folder of images, a video or a recording.

    Of a recording, "" takes the only topic with images there is; of it or a video, every
    `every`-th frame is taken.

    Raises:
        DatasetError: There is nothing, or nothing that can be read.
    """
    path = Path(path)
    if every < 1:
        raise OptionError("--every must be at least 1")
    if not path.exists():
        raise DatasetError(f"{path}: no such folder, video or recording")
    if is_bag(path):
        return Bag(path, topic, every)
    return ImageFolder(path) if path.is_dir() else Video(path, every)
