"""Pictures without labels: folders of them, videos, and recordings of a robot."""

from aopsam_ros.data.recordings.frames import Frame, FrameSource
from aopsam_ros.data.recordings.opening import open_frames

__all__ = ["Frame", "FrameSource", "open_frames"]
