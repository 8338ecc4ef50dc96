"""The node's subscriptions: made in activate, gone after deactivate."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from aopsam_ros.ros.subscription import CameraSubscription

SILENCE_S = 5.0  # without images, until it is worth a warning

# Type and meaning of every topic; docs/interface.md is made from this.
INPUTS: Mapping[str, tuple[type, str]] = {
    "image": (Image, "the camera's images; the newest one only waits"),
    "image/compressed": (
        CompressedImage,
        "instead, where `image_transport` is `compressed`: JPEG or PNG",
    ),
    "camera_info": (CameraInfo, "optional: puts markers into the optical frame"),
}
Callback = Callable[[Any], None]


class Inputs:
    """Listens to the camera, and notices when it is silent."""

    def __init__(
        self, node: Node, transport: str, on_image: Callback, on_camera_info: Callback
    ) -> None:
        """Subscribe.

        Raises:
            OptionError: if the user's quality of service is impossible.
        """
        self._node = node
        self._on_image = on_image
        self._heard = time.monotonic()
        self._warned = False
        self._subscriptions: dict[str, CameraSubscription] = {}
        try:
            self._image = self._listen(_image_topic(transport), self._heard_image)
            self._listen("camera_info", on_camera_info)
        except BaseException:
            self.destroy()
            raise

    def _listen(self, name: str, callback: Callback) -> CameraSubscription:
        # As image_transport's subscribers do: the compressed topic lies below the raw one's name.
        base, _, transport = name.partition("/")
        topic = f"{self._node.resolve_topic_name(base)}/{transport}" if transport else base
        subscription = CameraSubscription(self._node, INPUTS[name][0], topic, callback)
        self._subscriptions[name] = subscription
        return subscription

    def _heard_image(self, message: Image | CompressedImage) -> None:
        self._heard, self._warned = time.monotonic(), False
        self._on_image(message)

    @property
    def image_topic(self) -> str:
        """Full name of the images' topic."""
        return self._image.topic

    @property
    def silent(self) -> bool:
        """Whether no image came for some seconds."""
        return time.monotonic() - self._heard > SILENCE_S

    def adapt(self) -> None:
        """Follow the publishers there are now, and warn once of silence; called once a second."""
        for subscription in self._subscriptions.values():
            subscription.adapt()
        if self.silent and not self._warned:
            self._warned = True
            self._node.get_logger().warning(self._image.silence(SILENCE_S))

    def destroy(self) -> None:
        """End the subscriptions."""
        for subscription in self._subscriptions.values():
            subscription.destroy()
        self._subscriptions.clear()


def _image_topic(transport: str) -> str:
    return "image/compressed" if transport == "compressed" else "image"
