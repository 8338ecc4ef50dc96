"""A lifecycle node with the topics of this package's and nothing behind them, to compare with."""

from __future__ import annotations

import contextlib
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import CameraInfo, Image

from aopsam_ros.ros.lifecycle import remove_dead_references
from aopsam_ros.ros.publishers import TOPICS


class PlainNode(LifecycleNode):
    """Publishes nothing, on as many topics; answers each image with an empty array of masks."""

    def __init__(self) -> None:
        super().__init__("aopsam")
        self._outputs: dict[str, Any] = {}
        self._inputs: list[Any] = []
        self.create_timer(1.0, lambda: remove_dead_references(self))

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Create the publishers."""
        for topic, (kind, _) in TOPICS.items():
            self._outputs[topic] = self.create_lifecycle_publisher(kind, f"~/{topic}", 5)
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe."""
        self._inputs = [
            self.create_subscription(Image, "image", self._answer, 1),
            self.create_subscription(CameraInfo, "camera_info", lambda _: None, 1),
        ]
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End the subscriptions."""
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        self._inputs = []
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Remove the publishers."""
        for publisher in self._outputs.values():
            self.destroy_lifecycle_publisher(publisher)
        self._outputs = {}
        return super().on_cleanup(state)

    def _answer(self, image: Image) -> None:
        kind, _ = TOPICS["masks"]
        self._outputs["masks"].publish(kind(header=image.header))


def main() -> None:
    """Configure, activate, and run until interrupted."""
    rclpy.init()
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        node = PlainNode()
        node.trigger_configure()
        node.trigger_activate()
        rclpy.spin(node)


if __name__ == "__main__":
    main()
