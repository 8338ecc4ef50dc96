"""Stable ids: which mask of this frame is which mask of the frames before."""

from aopsam_ros.tracking.stream import StreamTracker
from aopsam_ros.tracking.tracker import Tracker, TrackingOptions

__all__ = ["StreamTracker", "Tracker", "TrackingOptions"]
