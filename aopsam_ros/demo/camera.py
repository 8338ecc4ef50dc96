"""A camera made of photographs: publishes them as images with CameraInfo, at a steady rate."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from aopsam_ros.demo.photographs import Photograph
from aopsam_ros.ros.messages.images import array_to_image

IMAGE_TOPIC = "/image"  # as the launch files and the viewers have them
INFO_TOPIC = "/camera_info"

_FRAME_ID = "camera_optical_frame"
_FIELD_OF_VIEW = 1.05  # radians across the width: that of a common webcam

OnFrame = Callable[[int, str], None]


def camera_info(width: int, height: int) -> CameraInfo:
    """Return the calibration of an ideal pinhole camera of this size, without a stamp."""
    focal = width / (2.0 * np.tan(_FIELD_OF_VIEW / 2.0))
    centre_x, centre_y = (width - 1) / 2.0, (height - 1) / 2.0
    message = CameraInfo(header=Header(frame_id=_FRAME_ID), width=width, height=height)
    message.distortion_model = "plumb_bob"
    message.d = [0.0] * 5
    message.k = [focal, 0.0, centre_x, 0.0, focal, centre_y, 0.0, 0.0, 1.0]
    message.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    message.p = [focal, 0.0, centre_x, 0.0, 0.0, focal, centre_y, 0.0, 0.0, 0.0, 1.0, 0.0]
    return message


class PhotographCamera(Node):
    """Publishes every photograph `repeat` times, as `Image` and `CameraInfo` of the same stamp.

    `on_frame` is called before each with its stamp (nanoseconds) and the photograph's name. The
    first one is published until `may_move` returns True.
    """

    def __init__(
        self,
        photographs: Sequence[Photograph],
        repeat: int,
        on_frame: OnFrame,
        may_move: Callable[[], bool],
    ) -> None:
        super().__init__("photograph_camera")
        # Reliable suits best-effort subscribers, too. The node takes the newest only, whatever the
        # depth; a recording is to get every frame.
        qos = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
        self._images = self.create_publisher(Image, IMAGE_TOPIC, qos)
        self._infos = self.create_publisher(CameraInfo, INFO_TOPIC, qos)
        self._frames = _frames(photographs, repeat, may_move)
        self._on_frame = on_frame
        self.done = False

    @property
    def subscribers(self) -> int:
        """How many subscribe to the images."""
        return int(self._images.get_subscription_count())

    def start(self, fps: float) -> None:
        """Begin to publish; `done` is true after the last frame."""
        self.create_timer(1.0 / fps, self._publish)

    def _publish(self) -> None:
        frame = next(self._frames, None)
        if frame is None:
            self.done = True
            return
        name, image, info = frame
        stamp = self.get_clock().now()
        image.header.stamp = info.header.stamp = stamp.to_msg()
        self._on_frame(stamp.nanoseconds, name)
        self._infos.publish(info)
        self._images.publish(image)


def _frames(
    photographs: Sequence[Photograph], repeat: int, may_move: Callable[[], bool]
) -> Iterator[tuple[str, Image, CameraInfo]]:
    for photograph in photographs:
        image = array_to_image(photograph.rgb, "rgb8", Header(frame_id=_FRAME_ID))
        info = camera_info(image.width, image.height)
        while not may_move():
            yield photograph.name, image, info
        for _ in range(repeat):
            yield photograph.name, image, info
