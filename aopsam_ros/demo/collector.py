"""Subscribes to what the node publishes, and records it during the demo."""

from __future__ import annotations

import time

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.time import Time
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from visualization_msgs.msg import Marker, MarkerArray

from aopsam_ros.demo.recording import Frame, Recording
from aopsam_ros.msg import MaskArray, PromptArray


class Collector(Node):
    """Records the results and the diagnostics of the node `target`."""

    def __init__(self, target: str, recording: Recording) -> None:
        super().__init__("aopsam_demo_collector")
        self._target = target.strip("/")
        self._recording = recording
        quality = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
        for kind, topic, callback in (
            (MaskArray, f"{target}/masks", self._on_masks),
            (PromptArray, f"{target}/prompts", self._on_prompts),
            (MarkerArray, f"{target}/prompt_markers", self._on_markers),
            (Image, f"{target}/confidence_map", self._on_confidence_map),
            (DiagnosticArray, "/diagnostics", self._on_diagnostics),
        ):
            self.create_subscription(kind, topic, callback, quality)

    def _frame(self, header: Header) -> Frame:
        return self._recording.frame(Time.from_msg(header.stamp).nanoseconds)

    def _on_masks(self, message: MaskArray) -> None:
        arrival = time.time_ns()
        frame = self._frame(message.header)
        frame.masks, frame.arrival = message, arrival

    def _on_prompts(self, message: PromptArray) -> None:
        self._frame(message.header).prompts = message

    def _on_markers(self, message: MarkerArray) -> None:
        for marker in message.markers:
            if marker.action == Marker.ADD:
                self._frame(marker.header).markers += 1

    def _on_confidence_map(self, message: Image) -> None:
        rows = np.frombuffer(message.data, np.float32).reshape(message.height, -1)
        self._frame(message.header).confidence_map = rows[:, : message.width]

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if self._target in status.name:
                said = {pair.key: pair.value for pair in status.values if pair.value}
                self._recording.diagnostics.update(said)
