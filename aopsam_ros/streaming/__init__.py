"""Stable ids: which mask of this frame is which mask of the frames before."""

from aopsam_ros.streaming.stream import StreamTracker
from aopsam_ros.streaming.tracker import Tracker, TrackingOptions

__all__ = ["StreamTracker", "Tracker", "TrackingOptions"]
