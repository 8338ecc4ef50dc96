"""Images wait for the boxes that a detector finds in them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from vision_msgs.msg import Detection2DArray

from aopsam_ros.ros.frame import Frame
from aopsam_ros.ros.stamp_buffer import StampBuffer, distance_ms

MOST_IMAGES = 10  # that wait; a detector's delay in frames
MOST_BOXES = 30  # messages that came before their image


class BoxPairing:
    """Puts each image together with the boxes of its stamp.

    A detector may be slower than the camera and skip images: those older than the newest pair are
    let go. One thread at a time may use it.
    """

    def __init__(
        self,
        topic: str,
        forward: Callable[[Frame], None],
        on_drop: Callable[[], None],
        on_missing: Callable[[str], None],
    ) -> None:
        """Prepare to call `forward` for pairs.

        Args:
            topic: of the boxes, for messages to the user.
            forward: given a frame with its boxes.
            on_drop: called for an image that was let go for a newer one.
            on_missing: told why, for an image whose boxes did not come in time.
        """
        self._topic = topic
        self._forward = forward
        self._on_drop = on_drop
        self._on_missing = on_missing
        self._frames: list[Frame] = []
        self._boxes: StampBuffer[Detection2DArray] = StampBuffer(MOST_BOXES)

    def put_image(self, frame: Frame) -> None:
        """Take an image; it is forwarded at once where its boxes are here already."""
        self.expire()
        self._frames.append(frame)
        found = self._boxes.nearest(frame.image.header)
        if found is not None and found[0] <= _tolerance(frame):
            self._pair(frame, found[1])
        elif len(self._frames) > MOST_IMAGES:
            self._frames.pop(0)
            self._on_drop()

    def put_boxes(self, message: Detection2DArray) -> None:
        """Take a detector's boxes; the image they belong to is forwarded."""
        self._boxes.put(message.header, message)
        frame = min(self._frames, key=lambda f: _distance(f, message), default=None)
        if frame is not None and _distance(frame, message) <= _tolerance(frame):
            self._pair(frame, message)

    def _pair(self, frame: Frame, boxes: Detection2DArray) -> None:
        older = self._frames.index(frame)
        del self._frames[: older + 1]
        for _ in range(older):
            self._on_drop()
        self._forward(replace(frame, boxes=boxes))

    def expire(self) -> None:
        """Give up images that waited for too long; to be called from time to time."""
        now = time.monotonic()
        while self._frames and now > _deadline(self._frames[0]):
            self._on_missing(self._why(self._frames.pop(0)))

    def _why(self, frame: Frame) -> str:
        options = frame.configuration.pairing
        found = self._boxes.nearest(frame.image.header)
        if found is None:
            return f"no boxes came on {self._topic} within {options.timeout_ms} ms of the image"
        return (
            f"no boxes on {self._topic} are within {options.tolerance_ms:g} ms of the image's "
            f"stamp, the nearest {found[0]:.0f} ms: a detector has to copy the image's stamp"
        )

    def clear(self) -> None:
        """Forget everything."""
        self._frames.clear()
        self._boxes.clear()


def _deadline(frame: Frame) -> float:
    return frame.received + frame.configuration.pairing.timeout_ms / 1000


def _tolerance(frame: Frame) -> float:
    return frame.configuration.pairing.tolerance_ms


def _distance(frame: Frame, boxes: Detection2DArray) -> float:
    return distance_ms(frame.image.header, boxes.header)
