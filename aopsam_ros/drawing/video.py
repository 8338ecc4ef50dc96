"""Frames shown to people as a video file or live in a window."""

import os
import sys
from pathlib import Path

import cv2

from aopsam_ros.errors import InputError
from aopsam_ros.images.compressed import RgbImage
from aopsam_ros.images.files import opencv_name

UNKNOWN_RATE = 10.0  # frames a second, where the source does not say
LONGEST_GAP = 10.0  # seconds without a frame, which the last one fills; more are cut out
_FOURCC = cv2.VideoWriter.fourcc(*"mp4v")  # which every OpenCV can write
_QUIT = {ord("q"), 27}  # or Escape


class VideoFile:
    """An MP4 file, opened by its first frame.

    Args:
        path: ends in .mp4.
        rate: frames a second; 0 takes `UNKNOWN_RATE`.
    """

    def __init__(self, path: Path, rate: float) -> None:
        self.path, self.rate = path, rate or UNKNOWN_RATE
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._count = self._first = 0

    def write(self, rgb: RgbImage, stamp: int = 0) -> None:
        """Add a frame, uint8 RGB `[H, W, 3]`.

        Args:
            rgb: the frame.
            stamp: when it was taken, nanoseconds, of a camera that gives fewer frames than `rate`:
                it is then repeated, so that the video is as long as what it shows. 0: once.

        Raises:
            InputError: if it is not of the first frame's size.
            OSError: if the file cannot be written.
        """
        writer = self._writer or self._open(rgb, stamp)
        size = (rgb.shape[1], rgb.shape[0])
        if size != self._size:
            raise InputError(f"a frame of {size} pixels does not fit a video of {self._size}")
        due = round(1e-9 * (stamp - self._first) * self.rate) + 1 if stamp else 0
        if due - self._count > LONGEST_GAP * self.rate:  # or the clock was set
            self._first = stamp - round(1e9 * self._count / self.rate)
            due = 0
        bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
        for _ in range(max(1, due - self._count)):
            writer.write(bgr)
            self._count += 1

    def _open(self, rgb: RgbImage, stamp: int) -> cv2.VideoWriter:
        self._size, self._first = (rgb.shape[1], rgb.shape[0]), stamp
        # MPEG-4 counts time in at most 65535 parts of a second.
        writer = cv2.VideoWriter(opencv_name(self.path), _FOURCC, round(self.rate, 2), self._size)
        if not writer.isOpened():
            raise OSError(f"{self.path}: the video cannot be written")
        self._writer = writer
        return writer

    def close(self) -> None:
        """Write the file's end; without it, the video cannot be played.

        Raises:
            OSError: if the file does not hold all frames, as on a disk that was full.
        """
        if self._writer is None:
            return
        self._writer.release()
        # OpenCV's writer reports no error of the disk.
        reader = cv2.VideoCapture(opencv_name(self.path))
        found = reader.get(cv2.CAP_PROP_FRAME_COUNT) if reader.isOpened() else 0
        reader.release()
        if found < self._count:
            raise OSError(f"{self.path}: the video could not be written to its end")


class Window:
    """A window of OpenCV.

    Raises:
        InputError: if there is no screen, or this OpenCV has no windows.
    """

    def __init__(self, title: str) -> None:
        # Qt ends the process where it finds no screen.
        screens = ("DISPLAY", "WAYLAND_DISPLAY")
        if sys.platform == "linux" and not any(os.environ.get(name) for name in screens):
            raise InputError("there is no screen for a window: DISPLAY is not set")
        try:
            cv2.namedWindow(title, cv2.WINDOW_NORMAL)
        except cv2.error:
            raise InputError(
                "this OpenCV has no windows: `pip uninstall opencv-python-headless`, then"
                " `pip install opencv-python`"
            ) from None
        self.title = title

    def show(self, rgb: RgbImage) -> bool:
        """Show a frame; return whether to go on: nobody pressed q or Escape, or closed it."""
        cv2.imshow(self.title, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
        is_quit = cv2.waitKey(1) & 0xFF in _QUIT
        return not is_quit and cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) >= 1

    def close(self) -> None:
        """Close it."""
        cv2.destroyWindow(self.title)
