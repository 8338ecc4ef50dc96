"""A video file."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.data.recordings.frames import Frame, file_key, numbered
from aopsam_ros.errors import DatasetError, InputError


class Video:
    """Every `every`-th frame of a video, in any format that this OpenCV reads."""

    def __init__(self, path: Path, every: int) -> None:
        self.name, self.path, self.every = path.stem, path, every
        capture = self._open()
        self._count = int(max(0, capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        is_readable = capture.grab()
        capture.release()
        if not is_readable:
            raise DatasetError(f"{path}: no frame of this video can be read")

    def _open(self) -> cv2.VideoCapture:
        capture = cv2.VideoCapture(str(self.path))
        if not capture.isOpened():
            raise DatasetError(
                f"{self.path}: neither a video that OpenCV can read, nor a folder of pictures, nor"
                " a recording (a folder with metadata.yaml, .mcap, .db3, .bag)"
            )
        return capture

    def __len__(self) -> int:
        return math.ceil(self._count / self.every)

    def key(self) -> str:
        """See `FrameSource`."""
        return file_key([self.path], self.every)

    def frames(self) -> Iterator[Frame]:
        """See `FrameSource`; the pictures must be read in order, each before the next frame."""
        capture = self._open()
        try:
            number = 0
            while capture.grab():  # finds the next frame, without decoding it
                if number % self.every == 0:
                    yield numbered(number, functools.partial(_retrieve, capture), self.every)
                number += 1
        finally:
            capture.release()


def _retrieve(capture: cv2.VideoCapture) -> NDArray[np.uint8]:
    is_whole, bgr = capture.retrieve()
    if not is_whole:
        raise InputError("the frame cannot be decoded")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
