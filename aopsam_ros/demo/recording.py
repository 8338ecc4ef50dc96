"""What the demo collects: every published frame, and what the node published for it."""

import time
from dataclasses import dataclass, field

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.time import Time
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from aopsam_ros.msg import MaskArray, PromptArray
from aopsam_ros.results import Prompt, PromptState, Segmentation
from aopsam_ros.ros.messages.segmentations import instance_of


@dataclass
class PublishedFrame:
    """One published frame and its results; times in nanoseconds since the epoch."""

    stamp: int
    photograph: str
    arrival: int = 0  # of its masks
    masks: MaskArray | None = None
    prompts: PromptArray | None = None
    confidence_map: NDArray[np.float32] | None = None

    @property
    def latency_ms(self) -> float:
        """Milliseconds from the image's stamp to the arrival of its masks."""
        return (self.arrival - self.stamp) / 1e6


@dataclass
class Recording:
    """All frames of a run by their stamp, and the node's diagnostics."""

    frames: dict[int, PublishedFrame] = field(default_factory=dict)
    diagnostics: dict[str, str] = field(default_factory=dict)
    has_error: bool = False  # whether the level of the newest diagnostics is ERROR

    def add(self, stamp: int, photograph: str) -> None:
        """Add a frame that is about to be published."""
        self.frames[stamp] = PublishedFrame(stamp, photograph)

    def segmented(self) -> list[PublishedFrame]:
        """Return the frames whose masks arrived, in the order of their stamps."""
        return [frame for frame in self.frames.values() if frame.masks is not None]

    def shown(self) -> set[str]:
        """Return the names of the photographs for which masks and prompts arrived."""
        return {frame.photograph for frame in self.segmented() if frame.prompts is not None}

    def has_label(self, label: str) -> bool:
        """Tell whether a mask with this label has arrived."""
        arrived = (frame.masks.masks for frame in self.frames.values() if frame.masks)
        return any(mask.label == label for masks in arrived for mask in masks)

    def is_complete(self) -> bool:
        """Tell whether the newest frame has its masks and prompts, and the engine is known."""
        newest = next(reversed(self.frames.values()), None)
        has_results = newest is None or (newest.masks is not None and newest.prompts is not None)
        return has_results and "engine" in self.diagnostics


class Collector(Node):
    """Records the results and the diagnostics of the node `target`."""

    def __init__(self, target: str, recording: Recording) -> None:
        super().__init__("aopsam_demo_collector")
        self._target = target.strip("/")
        self._recording = recording
        qos = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
        for kind, topic, callback in (
            (MaskArray, f"{target}/masks", self._on_masks),
            (PromptArray, f"{target}/prompts", self._on_prompts),
            (Image, f"{target}/confidence_map", self._on_confidence_map),
            (DiagnosticArray, "/diagnostics", self._on_diagnostics),
        ):
            self.create_subscription(kind, topic, callback, qos)

    def _frame(self, header: Header) -> PublishedFrame:
        """Return the frame of a result; an unknown one is made and forgotten."""
        stamp = Time.from_msg(header.stamp).nanoseconds
        return self._recording.frames.get(stamp) or PublishedFrame(stamp, "")

    def _on_masks(self, message: MaskArray) -> None:
        arrival = time.time_ns()
        frame = self._frame(message.header)
        frame.masks, frame.arrival = message, arrival

    def _on_prompts(self, message: PromptArray) -> None:
        self._frame(message.header).prompts = message

    def _on_confidence_map(self, message: Image) -> None:
        rows = np.frombuffer(message.data, np.float32).reshape(message.height, -1)
        self._frame(message.header).confidence_map = rows[:, : message.width]

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if self._target in status.name:
                values = {pair.key: pair.value for pair in status.values if pair.value}
                self._recording.diagnostics.update(values)
                self._recording.has_error = status.level == DiagnosticStatus.ERROR


def segmentation_of(frame: PublishedFrame, diagnostics: dict[str, str]) -> Segmentation:
    """Return a frame's messages, masks and prompts at least, as a `Segmentation` to be drawn."""
    assert frame.masks is not None and frame.prompts is not None
    prompts = tuple(
        Prompt(message.x, message.y, message.confidence, PromptState(message.state))
        for message in frame.prompts.prompts
    )
    return Segmentation(
        height=frame.masks.height,
        width=frame.masks.width,
        masks=tuple(map(instance_of, frame.masks.masks)),
        prompts=prompts,
        prompts_decoded=sum(
            prompt.state in (PromptState.KEPT, PromptState.REJECTED) for prompt in prompts
        ),
        timings_ms={},
        confidence_map=frame.confidence_map,
        model=diagnostics.get("model", ""),
        prompt_source=diagnostics.get("prompt_source", ""),
    )
