"""A video is as long as what it shows."""

import subprocess
import sys

import cv2
import numpy as np
import pytest

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


# In a process of its own, which OpenCV would end.
NO_TEXT = """
import os, sys
from pathlib import Path
import numpy as np
from aopsam_ros.data.recordings import open_frames
from aopsam_ros.drawing.video import VideoFile
file = Path(sys.argv[1]) / os.fsdecode(b"caf\\xe9.mp4")
video = VideoFile(file, 10.0)
video.write(np.zeros((32, 32, 3), np.uint8))
video.close()
print(sum(frame.read().shape == (32, 32, 3) for frame in open_frames(file).frames()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are text")
def test_a_video_whose_name_is_no_text(tmp_path):
    command = [sys.executable, "-c", NO_TEXT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "1\n", done


# In a process of its own, whose files may not grow beyond a size: as on a disk that is full.
FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from aopsam_ros.drawing.video import VideoFile
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, 2 * (int(sys.argv[2]),))
video, random = VideoFile(Path(sys.argv[1]), 10.0), np.random.default_rng(0)
for _ in range(20):
    video.write(random.integers(0, 256, (120, 160, 3), np.uint8))
try:
    video.close()
except OSError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of a file's size")
@pytest.mark.parametrize(("space", "is_whole"), [(2**30, True), (50_000, False)])
def test_a_video_that_does_not_fit_on_the_disk_is_an_error(tmp_path, space, is_whole):
    file = tmp_path / "v.mp4"
    command = [sys.executable, "-c", FULL_DISK, str(file), str(space)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said = "" if is_whole else f"{file}: the video could not be written to its end\n"
    assert done.stdout == said
    assert (frames_of(file) == 20) is is_whole
