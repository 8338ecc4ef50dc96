"""The node's subscriptions: made in activate, gone after deactivate."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from vision_msgs.msg import Detection2DArray

from aopsam_ros.errors import OptionError
from aopsam_ros.ros.camera_subscription import CameraSubscription

SILENCE_S = 5.0  # without images, until it is worth a warning
ERROR_PERIOD_S = 10.0

# Type and meaning of every topic; docs/interface.md is made from this.
INPUTS: Mapping[str, tuple[type, str]] = {
    "image": (Image, "the camera's images; the newest one only waits"),
    "image/compressed": (
        CompressedImage,
        "instead, where `image_transport` is `compressed`: JPEG or PNG",
    ),
    "camera_info": (CameraInfo, "optional: puts markers and boxes into the optical frame"),
    "boxes": (
        Detection2DArray,
        "a detector's, with the image's stamp, where `prompt_source` is `boxes` or `box_centres`: "
        "a prompt each; the class becomes the mask's label",
    ),
    "depth": (
        Image,
        "optional: registered to the image; 32FC1 metres or 16UC1 millimetres. Listened to only "
        "while somebody wants `~/detections_3d` or `~/points`",
    ),
}
Callback = Callable[[Any], None]


class Inputs:
    """Listens to the camera and what belongs to it, and notices when it is silent."""

    def __init__(
        self,
        node: Node,
        transport: str,
        callbacks: Mapping[str, Callback],
        wants: Callable[[str], bool],
    ) -> None:
        """Subscribe.

        Args:
            node: that listens.
            transport: of the images: raw or compressed.
            callbacks: by topic; `image` stands for either transport.
            wants: whether a topic is needed at the moment; asked again once a second.

        Raises:
            OptionError: if the user's quality of service is impossible.
        """
        self._node = node
        self._wants = wants
        self._on_image = callbacks["image"]
        self._callbacks = {**callbacks, "image": self._heard_image}
        if transport == "compressed":
            self._callbacks["image/compressed"] = self._callbacks.pop("image")
        self._heard = time.monotonic()
        self._warned = False
        self._subscriptions: dict[str, CameraSubscription] = {}
        try:
            self._subscribe()
        except BaseException:
            self.destroy()
            raise

    def _subscribe(self) -> None:
        """Listen to what is wanted, and to nothing else."""
        for name, callback in self._callbacks.items():
            if not self._wants(name):
                subscription = self._subscriptions.pop(name, None)
                if subscription is not None:
                    subscription.destroy()
            elif name not in self._subscriptions:
                self._listen(name, callback)

    def _listen(self, name: str, callback: Callback) -> None:
        # As image_transport's subscribers do: the compressed topic lies below the raw one's name.
        base, _, transport = name.partition("/")
        topic = f"{self._node.resolve_topic_name(base)}/{transport}" if transport else base
        kind, _ = INPUTS[name]
        self._subscriptions[name] = CameraSubscription(self._node, kind, topic, callback)

    def _heard_image(self, message: Image | CompressedImage) -> None:
        self._heard, self._warned = time.monotonic(), False
        self._on_image(message)

    @property
    def _image(self) -> CameraSubscription:
        return next(s for name, s in self._subscriptions.items() if name.startswith("image"))

    @property
    def image_topic(self) -> str:
        """Full name of the images' topic."""
        return self._image.topic

    @property
    def silent(self) -> bool:
        """Whether no image came for some seconds."""
        return time.monotonic() - self._heard > SILENCE_S

    def adapt(self) -> None:
        """Follow what is offered and wanted now, and warn once of silence; called once a second."""
        try:
            self._subscribe()
        except OptionError as error:
            self._node.get_logger().error(str(error), throttle_duration_sec=ERROR_PERIOD_S)
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
