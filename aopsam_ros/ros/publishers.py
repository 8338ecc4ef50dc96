"""The node's publishers: created in configure, active while the node is."""

import contextlib
import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CompressedImage, Image, PointCloud2
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray, Detection3DArray
from visualization_msgs.msg import ImageMarker, MarkerArray

from aopsam_ros.drawing.overlay import draw_overlay
from aopsam_ros.errors import OptionError
from aopsam_ros.images.compressed import RgbImage
from aopsam_ros.masks.saliency import most_salient
from aopsam_ros.msg import MaskArray, PromptArray, Target
from aopsam_ros.results import Segmentation
from aopsam_ros.ros.messages import detections_3d, markers, segmentations
from aopsam_ros.ros.messages.images import array_to_image, array_to_jpeg
from aopsam_ros.ros.messages.targets import target_message
from aopsam_ros.ros.pairing import Frame, SegmentedFrame
from aopsam_ros.ros.qos import POLICIES, readable_qos_errors
from aopsam_ros.ros.transforms import Transform, TransformListener
from aopsam_ros.space.boxes_3d import Box3D, fit_box
from aopsam_ros.streaming.follower import Target as TargetInFrame

try:
    from foxglove_msgs.msg import ImageAnnotations

    from aopsam_ros.ros.messages.annotations import annotations
except ImportError:  # not installed, or for another Python
    ImageAnnotations = None

# Type and meaning of every topic; docs/interface.md is made from this.
TOPICS: Mapping[str, tuple[type, str]] = {
    "masks": (MaskArray, "every instance, run-length encoded inside its box"),
    "prompts": (PromptArray, "every prompt, and its state"),
    "prompt_markers": (MarkerArray, "the prompts for RViz, in `target_frame` or the camera's"),
    "outlines": (ImageMarker, "the masks' outlines, to be drawn over the image by Foxglove"),
    "prompt_points": (ImageMarker, "the prompts, likewise"),
    "labels": (
        Image,
        "mono16 label map: ids of the masks, small ones on top, without gaps where they touch (3 "
        "pixels at most); 0 where none is",
    ),
    "overlay": (Image, "rgb8: the image with masks and prompts drawn on it"),
    "overlay/compressed": (CompressedImage, "the same as JPEG, for slow networks"),
    "confidence_map": (
        Image,
        "32FC1: the prompt confidence map, 0 to 1, over the whole image; with `reuse.enabled` only "
        "of images in which something changed",
    ),
    "salient": (MaskArray, "the most salient of the masks, best first: `salient.count` of them"),
    "edges": (Image, "mono8: edges of all masks, thin, 255 the surest; not with grid.crop_layers"),
    "detections": (
        Detection2DArray,
        "the masks' boxes, by the mean of score and stability score; `class_id` is the mask's "
        "label, `score` the mask's",
    ),
    "target": (Target, "where the thing is that `~/follow` chose; only while one is followed"),
    "detections_3d": (
        Detection3DArray,
        "the masks' boxes in space, where `depth` and `camera_info` come; `id` is the mask's",
    ),
    "boxes_3d": (MarkerArray, "the same boxes for RViz and Foxglove: their edges, as lines"),
    "points": (
        PointCloud2,
        "up to 2000 points of every mask in space: x, y, z, colour, and the mask's id as `label`",
    ),
}
ACKNOWLEDGED_S = 0.5  # in which subscribers acknowledge that markers are deleted
NEW_VIEWER_MESSAGES = 10  # for which a subscriber is new: it may miss the very first
DEPTH_TOPICS = ("detections_3d", "boxes_3d", "points")  # made from depth images


class Publishers:
    """Publishes segmentations; a message that nobody subscribed to is not even made."""

    def __init__(self, node: LifecycleNode) -> None:
        """Create the publishers, inactive until the node is active.

        Raises:
            OptionError: if the user's quality of service is impossible.
        """
        self._node = node
        self._publishers: dict[str, Any] = {}
        self._transforms: TransformListener | None = None  # while a target frame is wanted
        # Of topics of markers: subscribers at the last message; messages since one came.
        self._viewers: dict[str, tuple[int, int]] = {}
        try:
            for topic, (kind, _) in TOPICS.items():
                self._publishers[topic] = self._create(kind, f"~/{topic}")
            if ImageAnnotations is not None:
                self._publishers["annotations"] = self._create(ImageAnnotations, "~/annotations")
        except OptionError:
            self.destroy()
            raise

    def _create(self, kind: type, topic: str) -> Any:  # noqa: ANN401  (rclpy has no types)
        # Reliable: results are few and wanted. Shallow: nobody wants old ones.
        qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
        with readable_qos_errors(self._node.resolve_topic_name(topic)):
            return self._node.create_lifecycle_publisher(
                kind, topic, qos, qos_overriding_options=QoSOverridingOptions(POLICIES)
            )

    def publish(self, segmentation: Segmentation, header: Header) -> None:
        """Publish the masks, with the image's header."""
        self._publishers["masks"].publish(self._mask_array(segmentation, header))

    def _mask_array(self, segmentation: Segmentation, header: Header) -> MaskArray:
        seconds, nanoseconds = self._node.get_clock().now().seconds_nanoseconds()
        stamp = header.stamp
        age_ms = 1e3 * (seconds - stamp.sec) + 1e-6 * (nanoseconds - stamp.nanosec)
        return segmentations.mask_array(segmentation, header, age_ms)

    def publish_target(self, target: TargetInFrame, header: Header, rgb: RgbImage) -> None:
        """Publish what became of the thing that is followed."""
        self._publish_if_subscribed(
            "target", lambda: target_message(target, header, *rgb.shape[:2])
        )

    def publish_views(self, segmented: SegmentedFrame, transform: Transform | None) -> None:
        """Publish all that is made from the segmentation beside the masks; markers transformed."""
        segmentation, rgb = segmented.segmentation, segmented.rgb
        header, configuration = segmented.frame.image.header, segmented.frame.configuration

        @functools.cache
        def overlay() -> RgbImage:
            options = configuration.overlay
            return draw_overlay(
                rgb, segmentation, show_prompts=options.prompts, show_legend=options.legend
            )

        def salient() -> MaskArray:
            chosen = most_salient(segmentation.masks, rgb, configuration.salient_count)
            return self._mask_array(replace(segmentation, masks=chosen), header)

        views: dict[str, Callable[[], Any]] = {
            "prompts": lambda: segmentations.prompt_array(segmentation, header),
            "prompt_markers": lambda: markers.prompt_markers(
                segmentation, header, segmented.calibration, configuration.markers, transform
            ),
            "detections": lambda: segmentations.detections(segmentation, header),
            "outlines": lambda: markers.outlines(segmentation, header),
            "prompt_points": lambda: markers.prompt_points(segmentation, header),
            "labels": lambda: segmentations.label_map(segmentation, header),
            "salient": salient,
            "edges": lambda: segmentations.edges(segmentation, header),
            "confidence_map": lambda: segmentations.confidence_map(segmentation, header),
            "overlay": lambda: array_to_image(overlay(), "rgb8", header),
            "overlay/compressed": lambda: array_to_jpeg(overlay(), header),
        }
        if "annotations" in self._publishers:
            views["annotations"] = lambda: annotations(segmentation, header)
        for topic, make in views.items():
            self._publish_if_subscribed(topic, make)

    def publish_3d(
        self, segmented: SegmentedFrame, depth: Image, transform: Transform | None
    ) -> None:
        """Publish the masks' boxes and points in space, transformed.

        Raises:
            InputError: if depth or calibration do not belong to the image, or are damaged.
        """
        segmentation, header = segmented.segmentation, segmented.frame.image.header
        options = segmented.frame.configuration.markers
        points = detections_3d.locate(
            segmentation, header, depth, segmented.calibration, options.rectified
        )
        boxes: list[Box3D | None] = []
        if self.subscribed("detections_3d", "boxes_3d"):
            axes = segmented.frame.configuration.boxes_3d_axes
            boxes = [fit_box(own, axes) for own in points]
        if transform is not None:
            header = transform.header
            points = [transform.points(own) for own in points]
            boxes = [box and transform.box(box) for box in boxes]
        views: dict[str, Callable[[], Any]] = {
            "detections_3d": lambda: detections_3d.detections_3d(segmentation, boxes, header),
            "boxes_3d": lambda: markers.box_markers(segmentation, boxes, header, options),
            "points": lambda: detections_3d.labelled_points(segmentation, points, header),
        }
        for topic, make in views.items():
            self._publish_if_subscribed(topic, make)

    def listen_to_transforms(self, wanted: bool) -> None:
        """Be subscribed to TF, or not; in the executor's thread."""
        if wanted and self._transforms is None:
            self._transforms = TransformListener(self._node)
        elif not wanted and self._transforms is not None:
            transforms, self._transforms = self._transforms, None
            transforms.close()

    def stop_waiting(self) -> None:
        """Wait for TF no longer: it comes in the executor's thread, which is to wait itself."""
        if self._transforms is not None:
            self._transforms.stop_waiting()

    def transform_of(self, frame: Frame) -> Transform | None:
        """Return what takes an image's points to the target frame; None where nobody asks for it.

        Raises:
            InputError: if TF does not know it in time.
        """
        target = frame.configuration.target_frame
        is_wanted = target and self.subscribed("prompt_markers", *DEPTH_TOPICS)
        transforms = self._transforms  # read once: the executor's thread may end it meanwhile
        if transforms is None or not is_wanted:
            return None
        patience_s = max(0.0, frame.deadline - time.monotonic())
        return transforms.look_up(target, frame.image.header, patience_s)

    @property
    def needs_depth(self) -> bool:
        """Whether a topic that is made from depth images has a subscriber."""
        return self.subscribed(*DEPTH_TOPICS)

    def subscribed(self, *topics: str) -> bool:
        """Return whether any of these topics has a subscriber."""
        return any(self._publishers[topic].get_subscription_count() for topic in topics)

    def _publish_if_subscribed(self, topic: str, make: Callable[[], Any]) -> None:
        """Make and publish a message; `make` may return None for no message."""
        message = make() if self.subscribed(topic) else None
        if isinstance(message, MarkerArray) and self._has_new_viewer(topic):
            # It may still show the markers of a node that was killed.
            message.markers.insert(0, markers.delete_all(message.markers[0].header))
        if message is not None:
            self._publishers[topic].publish(message)

    def _has_new_viewer(self, topic: str) -> bool:
        count = self._publishers[topic].get_subscription_count()
        before, messages = self._viewers.get(topic, (0, 0))
        self._viewers[topic] = count, 1 if count > before else messages + 1
        return self._viewers[topic][1] <= NEW_VIEWER_MESSAGES

    def clear(self) -> None:
        """Delete the markers that are being shown, and listen to TF no longer."""
        self.listen_to_transforms(False)
        message = MarkerArray(markers=[markers.delete_all(Header())])
        for topic, (kind, _) in TOPICS.items():
            if kind is MarkerArray:
                self._publishers[topic].publish(message)
                # The publisher may be destroyed next.
                self._publishers[topic].wait_for_all_acked(Duration(seconds=ACKNOWLEDGED_S))
        self._viewers.clear()

    def destroy(self) -> None:
        """Destroy the publishers."""
        with contextlib.ExitStack() as stack:  # each is destroyed, whatever another one raises
            for publisher in self._publishers.values():
                stack.callback(self._node.destroy_lifecycle_publisher, publisher)
            self._publishers = {}
