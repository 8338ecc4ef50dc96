"""The node's result topics: created in configure, live while the node is active."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray
from visualization_msgs.msg import MarkerArray

from aopsam_ros.msg import MaskArray, PromptArray
from aopsam_ros.ros import messages
from aopsam_ros.ros.conversions import RgbImage, array_to_image
from aopsam_ros.ros.markers import PromptMarkers
from aopsam_ros.ros.parameters import Configuration
from aopsam_ros.segmentation import Segmentation
from aopsam_ros.visualization import draw_overlay

# Reliable: results are few and wanted. Shallow: nobody wants old ones.
QUALITY = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)


# Type and meaning of every topic; docs/interface.md is made from this.
TOPICS: Mapping[str, tuple[type, str]] = {
    "masks": (MaskArray, "every instance, run-length encoded inside its box"),
    "prompts": (PromptArray, "every prompt, and what became of it"),
    "prompt_markers": (MarkerArray, "the prompts for RViz, in the camera's optical frame"),
    "labels": (Image, "mono16 label map: ids of the masks, small ones on top; 0 where none is"),
    "overlay": (Image, "rgb8: the image with masks and prompts drawn on it"),
    "confidence_map": (Image, "32FC1: the prompt confidence map, 0 to 1, over the whole image"),
    "detections": (Detection2DArray, "the masks' boxes; the score is the predicted IoU"),
}


class Outputs:
    """Publishes segmentations; what nobody has subscribed to is not even computed."""

    def __init__(self, node: LifecycleNode) -> None:
        """Create the publishers, silent until the node is active."""
        self._node = node
        self._publishers: list[Any] = []
        self._masks = self._publisher("masks")
        self._prompts = self._publisher("prompts")
        self._prompt_markers = self._publisher("prompt_markers")
        self._labels = self._publisher("labels")
        self._overlay = self._publisher("overlay")
        self._confidence_map = self._publisher("confidence_map")
        self._detections = self._publisher("detections")
        self._markers = PromptMarkers()

    def _publisher(self, topic: str) -> Any:  # noqa: ANN401  (rclpy has no types)
        kind, _ = TOPICS[topic]
        publisher = self._node.create_lifecycle_publisher(kind, f"~/{topic}", QUALITY)
        self._publishers.append(publisher)
        return publisher

    def publish_masks(self, segmentation: Segmentation, header: Header) -> None:
        """Publish what planners wait for."""
        self._masks.publish(messages.mask_array(segmentation, header))

    def publish_views(
        self,
        segmentation: Segmentation,
        rgb: RgbImage,
        header: Header,
        calibration: CameraInfo | None,
        configuration: Configuration,
    ) -> None:
        """Publish everything else, as far as somebody listens."""
        _offer(self._prompts, lambda: messages.prompt_array(segmentation, header))
        _offer(
            self._prompt_markers,
            lambda: self._markers.message(segmentation, header, calibration, configuration.markers),
        )
        _offer(self._detections, lambda: messages.detections(segmentation, header))
        _offer(self._labels, lambda: messages.label_map(segmentation, header))
        _offer(self._confidence_map, lambda: messages.confidence_map(segmentation, header))
        _offer(self._overlay, lambda: _overlay(rgb, segmentation, header, configuration))

    def clear(self) -> None:
        """Take the markers away that are being shown."""
        self._prompt_markers.publish(self._markers.clear())

    def destroy(self) -> None:
        """Remove the topics."""
        for publisher in self._publishers:
            self._node.destroy_lifecycle_publisher(publisher)
        self._publishers.clear()


def _offer(publisher: Any, make: Callable[[], Any]) -> None:  # noqa: ANN401
    """Make and publish a message if somebody listens; `make` may have none to give."""
    if publisher.get_subscription_count() == 0:
        return
    message = make()
    if message is not None:
        publisher.publish(message)


def _overlay(
    rgb: RgbImage, segmentation: Segmentation, header: Header, configuration: Configuration
) -> Image:
    picture = draw_overlay(
        rgb,
        segmentation,
        show_prompts=configuration.overlay_prompts,
        show_legend=configuration.overlay_legend,
    )
    return array_to_image(picture, "rgb8", header)
