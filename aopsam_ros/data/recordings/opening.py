"""Which kind of pictures is this?"""

from __future__ import annotations

from pathlib import Path

from aopsam_ros.data.recordings.bags import Bag, is_bag
from aopsam_ros.data.recordings.frames import FrameSource
from aopsam_ros.data.recordings.pictures import PictureFolder
from aopsam_ros.data.recordings.videos import Video
from aopsam_ros.errors import DatasetError, OptionError


def open_frames(path: str | Path, topic: str = "", every: int = 1) -> FrameSource:
    """Open a folder of pictures, a video or a recording.

    Args:
        path: a folder or a file.
        topic: of a recording's images; "" takes the only one there is.
        every: take every so many-th frame of a video or a recording.

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
    return PictureFolder(path) if path.is_dir() else Video(path, every)
