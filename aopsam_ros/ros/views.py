"""What is published beside the masks, with an image's calibration and depth, where they come."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sensor_msgs.msg import CameraInfo, Image

from aopsam_ros.errors import InputError
from aopsam_ros.images.compressed import RgbImage
from aopsam_ros.results import Segmentation
from aopsam_ros.ros.messages.camera import calibration_mismatch
from aopsam_ros.ros.messages.detections_3d import Depths, median_depths
from aopsam_ros.ros.monitoring.statistics import Statistics
from aopsam_ros.ros.pairing import DepthBuffer, Frame
from aopsam_ros.ros.publishers import Publishers

if TYPE_CHECKING:
    from aopsam_ros.ros.transforms import Transform


@dataclass
class SegmentedFrame:
    """A segmented image, and what came with it."""

    frame: Frame
    rgb: RgbImage
    segmentation: Segmentation
    calibration: CameraInfo | None
    depth: Image | None = None  # set once it has come, where somebody wants it


class Views:
    """Publishes what has subscribers of a frame whose masks are out.

    Attributes:
        calibration: the camera's newest; None before the first.
        depth: images that a frame's own is found among.
    """

    def __init__(
        self,
        publishers: Publishers,
        statistics: Statistics,
        on_failure: Callable[[str], None],
        workers: int,
    ) -> None:
        """Publish by `publishers`, for so many threads as `workers`.

        `on_failure` is called with the reason for what is missing.
        """
        self.calibration: CameraInfo | None = None
        self.depth = DepthBuffer(workers)
        self._publishers = publishers
        self._statistics = statistics
        self._on_failure = on_failure

    def put_calibration(self, message: CameraInfo) -> None:
        """Take the calibration of the frames to come."""
        self.calibration = message

    def want_depth(self, for_labels: bool) -> bool:
        """Return whether depth images are needed, if only for labels; called once a second."""
        needed = for_labels or self._publishers.needs_depth
        self.depth.set_needed(needed)
        return needed

    def depths_of(self, frame: Frame, segmentation: Segmentation) -> Depths | None:
        """Return the depths of an image's masks; None where no depth of it comes."""
        header = frame.image.header
        try:
            depth = self.depth.wait_for(header, frame.configuration.pairing, frame.received)
        except InputError:  # masks are united by what else is known of them
            return None
        try:
            return None if depth is None else median_depths(segmentation, header, depth)
        except InputError as error:
            self._on_failure(f"masks are united without depth: {error}")
            return None

    def publish(self, segmented: SegmentedFrame) -> None:
        """Publish what is wanted beside the masks; that something is missing is no error."""
        frame, segmentation = segmented.frame, segmented.segmentation
        header, configuration = frame.image.header, frame.configuration
        transform, is_located = None, True
        if configuration.target_frame:
            try:
                transform = self._publishers.transform_to(
                    configuration.target_frame, header, frame.patience_s
                )
            except InputError as error:  # markers are as right in the camera's own frame
                is_located = False
                if self._publishers.needs_depth:
                    self._not_located(error)
                else:
                    self._on_failure(f"markers are in the camera's frame: {error}")
        calibration = self.calibration
        self._publishers.publish_views(
            segmentation, segmented.rgb, header, calibration, configuration, transform
        )
        if calibration is not None and self._publishers.subscribed("prompt_markers"):
            reason = calibration_mismatch(
                calibration, segmentation.height, segmentation.width, header
            )
            if reason:
                self._on_failure(f"markers without a calibration: {reason}")
        if is_located and self._publishers.needs_depth:
            self._publish_3d(segmented, transform)

    def _publish_3d(self, segmented: SegmentedFrame, transform: "Transform | None") -> None:
        """Publish where the masks are in space, once the image's depth has come."""
        frame, configuration = segmented.frame, segmented.frame.configuration
        header = frame.image.header
        try:
            depth = self.depth.wait_for(header, configuration.pairing, frame.received)
            if depth is not None:
                segmented.depth = depth
                self._publishers.publish_3d(
                    segmented.segmentation,
                    header,
                    depth,
                    self.calibration,
                    configuration,
                    transform,
                )
        except InputError as error:
            self._not_located(error)

    def _not_located(self, error: InputError) -> None:
        self._statistics.on_incomplete("not_located", str(error))
        self._on_failure(f"no boxes in space: {error}")
