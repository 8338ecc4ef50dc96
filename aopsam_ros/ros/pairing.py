"""An image on its way through the node, and what belongs to it by stamp: boxes, depth."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from aopsam_ros.errors import InputError
from aopsam_ros.images.compressed import RgbImage
from aopsam_ros.results import Segmentation
from aopsam_ros.ros.parameter_table import FrameConfiguration
from aopsam_ros.ros.transforms import MAX_LATE, TIME_JUMP_NS

M = TypeVar("M", Detection2DArray, Image)

MAX_WAITING_IMAGES = 30  # a detector's delay in frames
MAX_EARLY_BOXES = 30  # messages that came before their image
MAX_DEPTH_IMAGES = 30  # kept beside those of the images that are being segmented
DEPTH_ALIVE_S = 1.0  # after the last depth image, the next one is still waited for
DEPTH_GRACE_S = 3.0  # after depth was first subscribed to, a missing one is no error


@dataclass(frozen=True)
class Frame:
    """An image and the configuration to segment it with.

    They travel together: whatever is published for an image comes from exactly one configuration.
    """

    image: Image | CompressedImage
    received: float  # when it came, monotonic seconds
    configuration: FrameConfiguration  # at that time
    boxes: Detection2DArray | None = None  # a detector's, where prompts come from one

    @property
    def deadline(self) -> float:
        """Until when it may wait for what belongs to it, monotonic seconds."""
        return self.received + self.configuration.pairing.timeout_ms / 1000


@dataclass
class SegmentedFrame:
    """A segmented image, and what came with it."""

    frame: Frame
    rgb: RgbImage
    segmentation: Segmentation
    calibration: CameraInfo | None
    depth: Image | None = None  # set once it has come, where somebody wants it


def nanoseconds(header: Header) -> int:
    """Return a stamp in nanoseconds."""
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)


def distance_ms(first: Header, second: Header) -> float:
    """Return the absolute difference of two stamps, milliseconds."""
    return abs(nanoseconds(first) - nanoseconds(second)) / 1e6


def nearest(messages: Iterable[M], header: Header) -> tuple[float, M] | None:
    """Return the distance in milliseconds and the message with the nearest stamp, if any.

    Of several that are as near, the last one: a driver may repeat a stamp, or set none.
    """
    last_first = reversed([*messages])
    found = min(last_first, key=lambda message: distance_ms(message.header, header), default=None)
    return None if found is None else (distance_ms(found.header, header), found)


class BoxPairing:
    """Pairs each image with the boxes of its stamp. For one thread at a time.

    A detector may be slower than the camera and skip images: images older than the newest pair are
    dropped.
    """

    def __init__(
        self,
        topic: str,
        forward: Callable[[Frame], None],
        on_drop: Callable[[], None],
        on_missing: Callable[[str], None],
    ) -> None:
        """Prepare to call `forward` for frames that have their boxes, which come on `topic`.

        `on_drop` is called for an image that was dropped for a newer one, `on_missing` with the
        reason for one whose boxes did not come in time, or before too many others waited.
        """
        self._topic, self._forward = topic, forward
        self._on_drop, self._on_missing = on_drop, on_missing
        self._frames: list[Frame] = []
        self._boxes: deque[Detection2DArray] = deque(maxlen=MAX_EARLY_BOXES)

    def put_image(self, frame: Frame) -> None:
        """Add an image; it is forwarded at once if its boxes have arrived."""
        self.expire()
        self._frames.append(frame)
        found = nearest(self._boxes, frame.image.header)
        if found is not None and found[0] <= frame.configuration.pairing.tolerance_ms:
            self._pair(frame, found[1])
        elif len(self._frames) > MAX_WAITING_IMAGES:
            self._give_up(f"{MAX_WAITING_IMAGES} images")

    def put_boxes(self, message: Detection2DArray) -> None:
        """Add a detector's boxes; the image of their stamp is forwarded."""
        self._boxes.append(message)

        def distance(frame: Frame) -> float:
            return distance_ms(frame.image.header, message.header)

        frame = min(self._frames, key=distance, default=None)
        if frame is not None and distance(frame) <= frame.configuration.pairing.tolerance_ms:
            self._pair(frame, message)

    def _pair(self, frame: Frame, boxes: Detection2DArray) -> None:
        older = self._frames.index(frame)
        del self._frames[: older + 1]
        for _ in range(older):
            self._on_drop()
        self._forward(replace(frame, boxes=boxes))

    def expire(self) -> None:
        """Give up images that have waited too long; called once a second."""
        while self._frames and time.monotonic() > self._frames[0].deadline:
            self._give_up(f"{self._frames[0].configuration.pairing.timeout_ms} ms")

    def _give_up(self, limit: str) -> None:
        """Let go of the oldest image, whose boxes did not come within this time."""
        frame = self._frames.pop(0)
        found = nearest(self._boxes, frame.image.header)
        if found is None:
            self._on_missing(
                f"no boxes came on {self._topic} within {limit}: is it your detector's topic?"
            )
            return
        self._on_missing(
            f"no boxes on {self._topic} are within {frame.configuration.pairing.tolerance_ms:g} ms "
            f"of the image's stamp, the nearest {found[0]:.0f} ms: a detector has to copy the "
            f"image's stamp, and to answer within {limit}"
        )

    def clear(self) -> None:
        """Remove all images and boxes."""
        self._frames.clear()
        self._boxes.clear()


class DepthBuffer:
    """The newest depth images; one thread adds them, others wait for the one they need.

    Attributes:
        needed: whether depth is subscribed to.
    """

    def __init__(self, workers: int) -> None:
        """Begin without images, for so many threads that may wait."""
        self.needed = False
        self._changed = threading.Condition()
        self._kept: deque[Image] = deque(maxlen=MAX_DEPTH_IMAGES)
        self._at_work: deque[Header] = deque(maxlen=workers)  # images that are being segmented
        self._own: list[Image] = []  # the nearest to each of these
        self._newest_stamp = 0
        self._late = 0  # waits in a row in which depth came, but not that of the image
        self._last_arrival = -math.inf
        self._needed_since = math.inf

    def set_needed(self, needed: bool) -> None:
        """Note whether depth is subscribed to, and keep none if not; called once a second."""
        self.needed = needed
        self._needed_since = min(time.monotonic(), self._needed_since) if needed else math.inf
        if not needed:
            self.clear()

    def expect(self, header: Header) -> None:
        """Keep the depth of an image from now on, however long the work on it takes."""
        with self._changed:
            before = nanoseconds(self._at_work[-1]) if self._at_work else 0
            if nanoseconds(header) < before - TIME_JUMP_NS:
                self._newest_stamp = self._late = 0  # of the time before: it is yet to come
            self._at_work.append(header)

    def put(self, message: Image) -> None:
        """Add an image."""
        with self._changed:
            known = [*self._own, *self._kept, message]
            nearest_to = (nearest(known, header) for header in self._at_work)
            self._own = [found[1] for found in nearest_to if found is not None]
            self._kept.append(message)
            self._newest_stamp = nanoseconds(message.header)
            self._last_arrival = time.monotonic()
            self._changed.notify_all()

    def wait_for(self, frame: Frame) -> Image | None:
        """Return the depth of an image; None while depth may not have started to arrive yet.

        Waits until the frame's deadline, but only while depth images keep arriving and none is
        newer than the image; and where depth came too late `MAX_LATE` times, only if it is near.

        Raises:
            InputError: if there is none; the message says what there is instead.
        """
        tolerance_ms = frame.configuration.pairing.tolerance_ms
        with self._changed:
            first = self._newest_stamp
            while True:
                found = nearest([*self._own, *self._kept], frame.image.header)
                if found is not None and found[0] <= tolerance_ms:
                    self._late = 0
                    return found[1]
                now = time.monotonic()
                behind = (nanoseconds(frame.image.header) - self._newest_stamp) / 1e9
                left = min(frame.deadline, self._last_arrival + DEPTH_ALIVE_S) - now
                if left <= 0 < behind and self._newest_stamp > first:
                    self._late += 1
                is_late = self._late >= MAX_LATE and behind >= frame.deadline - now
                if left <= 0 or behind < 0 or is_late:
                    if now < self._needed_since + DEPTH_GRACE_S:
                        return None  # subscribed to after the image's own depth was sent
                    if found is None:
                        raise InputError("no depth came")
                    raise InputError(
                        f"no depth is within {tolerance_ms:g} ms of the image's stamp, the nearest "
                        f"{found[0]:.0f} ms"
                    )
                self._changed.wait(left)

    def clear(self) -> None:
        """Remove all images; whoever waits stops waiting."""
        with self._changed:
            self._kept.clear()
            self._at_work.clear()
            self._own.clear()
            self._last_arrival = -math.inf
            self._changed.notify_all()
