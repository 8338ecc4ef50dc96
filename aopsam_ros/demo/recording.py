"""What the demo records: every published frame, and what came back for it."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.results import InstanceMask, Prompt, PromptState, Segmentation

if TYPE_CHECKING:
    from aopsam_ros.msg import Mask as MaskMessage
    from aopsam_ros.msg import MaskArray, PromptArray
    from aopsam_ros.msg import Prompt as PromptMessage


@dataclass
class Frame:
    """One published frame and what came back for it; times in nanoseconds since the epoch."""

    stamp: int
    photograph: str = ""
    arrival: int | None = None
    masks: MaskArray | None = None
    prompts: PromptArray | None = None
    confidence_map: NDArray[np.float32] | None = None
    markers: int = 0

    @property
    def latency_ms(self) -> float:
        """Milliseconds from the image's stamp to the arrival of its masks."""
        return float("nan") if self.arrival is None else (self.arrival - self.stamp) / 1e6


class Recording:
    """All frames of a run by their stamp, and what the node said of itself; safe among threads."""

    def __init__(self) -> None:
        self.diagnostics: dict[str, str] = {}
        self._frames: dict[int, Frame] = {}
        self._lock = threading.Lock()

    def frame(self, stamp: int) -> Frame:
        """Return the frame of a stamp (nanoseconds), a new one for a new stamp."""
        with self._lock:
            return self._frames.setdefault(stamp, Frame(stamp))

    def note(self, line: str) -> None:
        """Take a line of the camera's report: which photograph a stamp belongs to."""
        report = json.loads(line)
        self.frame(report["stamp"]).photograph = report["photograph"]

    def frames(self) -> list[Frame]:
        """Return the published frames in the order of their stamps."""
        with self._lock:
            return [frame for _, frame in sorted(self._frames.items()) if frame.photograph]

    def published(self) -> int:
        """Return how many frames the camera has published."""
        return len(self.frames())

    def segmented(self) -> list[Frame]:
        """Return the published frames whose masks arrived, in the order of their stamps."""
        return [frame for frame in self.frames() if frame.masks is not None]

    def is_complete(self) -> bool:
        """Tell whether the newest published frame has its masks, and the node told its engine."""
        newest = self.frames()[-1:]
        return "engine" in self.diagnostics and all(
            frame.masks is not None and frame.prompts is not None for frame in newest
        )


def segmentation_of(frame: Frame, model: str, prompt_source: str) -> Segmentation:
    """Return a frame's messages as a `Segmentation`, to be drawn or measured.

    Raises:
        ValueError: if the frame has no masks.
    """
    if frame.masks is None:
        raise ValueError(f"no masks arrived for the frame of stamp {frame.stamp}")
    prompts = () if frame.prompts is None else tuple(map(_prompt, frame.prompts.prompts))
    return Segmentation(
        height=frame.masks.height,
        width=frame.masks.width,
        masks=tuple(map(_mask, frame.masks.masks)),
        prompts=prompts,
        decoder_calls=sum(
            prompt.state in (PromptState.DECODED, PromptState.REJECTED) for prompt in prompts
        ),
        timings_ms={},
        confidence_map=frame.confidence_map,
        model=model,
        prompt_source=prompt_source,
    )


def _prompt(message: PromptMessage) -> Prompt:
    return Prompt(message.x, message.y, message.confidence, PromptState(message.state))


def _mask(message: MaskMessage) -> InstanceMask:
    roi = message.roi
    return InstanceMask(
        id=message.id,
        bbox=(roi.x_offset, roi.y_offset, roi.width, roi.height),
        area=message.area,
        predicted_iou=message.predicted_iou,
        stability_score=message.stability_score,
        prompt=(message.prompt_x, message.prompt_y),
        prompt_confidence=message.prompt_confidence,
        label=message.label,
        counts=np.frombuffer(message.counts, np.uint32),
    )
