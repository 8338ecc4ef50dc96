"""A video is as long as what it shows."""

import cv2
import numpy as np

from aopsam_ros.drawing.video import VideoFile


def frames_of(file):
    reader, count = cv2.VideoCapture(str(file)), 0
    while reader.read()[0]:
        count += 1
    return count


def test_a_clock_that_is_set_while_recording_fills_no_disk(tmp_path):
    """A robot's clock jumps by a year when it finds the network's."""
    rgb, second, file = np.zeros((32, 32, 3), np.uint8), 10**9, tmp_path / "v.mp4"
    video = VideoFile(file, 10.0)
    for stamp in (second, 2 * second, 10**16, 10**16 + second, second, 2 * second):
        video.write(rgb, stamp)
    video.close()
    # The first; ten for a second; one where it was set; ten; and one for each after it went back.
    assert frames_of(file) == 1 + 10 + 1 + 10 + 2
