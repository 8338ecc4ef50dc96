"""The node's subscriptions: made in activate, gone after deactivate."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from vision_msgs.msg import Detection2DArray

from aopsam_ros.errors import OptionError
from aopsam_ros.ros.camera_subscription import CameraSubscription
from aopsam_ros.ros.monitoring.diagnostics import REMEDY
from aopsam_ros.ros.pipeline import Pipeline

SILENCE_S = 5.0  # without images, until there is a warning
ERROR_PERIOD_S = 10.0
LOSS_PERIOD_S = 60.0  # between warnings of lost images
# Of what is paired with images: messages that may arrive before one is received. At 30 Hz they may
# be a third of a second ahead of the image that they belong to.
PAIRED_DEPTH = 10

# Type and meaning of every topic; docs/interface.md is made from this.
TOPICS: Mapping[str, tuple[type, str]] = {
    "image": (Image, "the camera's images; only the newest one waits"),
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
        "optional: registered to the image; 32FC1 metres or 16UC1 millimetres. Subscribed to only "
        "while `~/detections_3d`, `~/boxes_3d` or `~/points` has a subscriber, or labels are "
        "merged by depth (`labels.merge`, `labels.depth_tolerance`)",
    ),
}


class Subscriptions:
    """Subscribes to the camera and what belongs to it, and detects silence."""

    def __init__(self, node: Node, transport: str, pipeline: Pipeline) -> None:
        """Subscribe, for what the pipeline wants; images come as `raw` or `compressed`.

        Raises:
            OptionError: if the user's quality of service is impossible.
        """
        self._node, self._pipeline = node, pipeline
        self._image_name = "image/compressed" if transport == "compressed" else "image"
        self._callbacks = dict(pipeline.callbacks)
        self._callbacks[self._image_name] = self._callbacks.pop("image")
        self._since = time.monotonic()
        self._warned = False
        self._lost = 0  # reported so far
        self._subscriptions: dict[str, CameraSubscription] = {}
        try:
            self._update()
        except BaseException:
            self.destroy()
            raise

    def _update(self) -> None:
        """Subscribe to the topics that are wanted, and to no others."""
        for name, callback in self._callbacks.items():
            if not self._pipeline.wants(name):
                subscription = self._subscriptions.pop(name, None)
                if subscription is not None:
                    subscription.destroy()
            elif name not in self._subscriptions:
                self._subscriptions[name] = self._subscribe(name, callback)

    def _subscribe(self, name: str, callback: Callable[[Any], None]) -> CameraSubscription:
        # As image_transport's subscribers do: the compressed topic lies below the raw one's name.
        base, _, transport = name.partition("/")
        topic = f"{self._node.resolve_topic_name(base)}/{transport}" if transport else base
        kind, _ = TOPICS[name]
        depth = PAIRED_DEPTH if name in ("boxes", "depth") else 1
        return CameraSubscription(self._node, kind, topic, callback, depth)

    @property
    def image_topic(self) -> str:
        """Full name of the images' topic."""
        return self._subscriptions[self._image_name].topic

    @property
    def lost(self) -> int:
        """How many images the middleware lost on their way since activation."""
        return self._subscriptions[self._image_name].lost

    @property
    def silent(self) -> bool:
        """Whether no image came for some seconds."""
        return time.monotonic() - max(self._since, self._pipeline.last_image_s) > SILENCE_S

    def adapt(self) -> None:
        """Follow what is offered and wanted, and warn of silence and loss; called once a second."""
        self._attempt(self._update)
        for subscription in self._subscriptions.values():
            self._attempt(subscription.adapt)
        warned, self._warned = self._warned, self.silent
        if self._warned and not warned:
            warning = self._subscriptions[self._image_name].silence(SILENCE_S)
            self._node.get_logger().warning(warning)
        new, self._lost = self.lost - self._lost, self.lost
        if new > 0:
            self._node.get_logger().warning(
                f"{self.image_topic}: {new} of the last second's images were lost on their way; "
                f"{REMEDY}",
                throttle_duration_sec=LOSS_PERIOD_S,
            )

    def _attempt(self, step: Callable[[], None]) -> None:
        """Do what may be impossible for one topic: the others are followed all the same."""
        try:
            step()
        except OptionError as error:
            self._node.get_logger().error(str(error), throttle_duration_sec=ERROR_PERIOD_S)

    def destroy(self) -> None:
        """Destroy the subscriptions."""
        for subscription in self._subscriptions.values():
            subscription.destroy()
        self._subscriptions.clear()
