"""What is published beside the masks, with an image's calibration and depth, where they come."""

import contextlib
from collections.abc import Callable

from sensor_msgs.msg import CameraInfo

from aopsam_ros.errors import InputError
from aopsam_ros.results import Segmentation
from aopsam_ros.ros.messages.camera import calibration_mismatch
from aopsam_ros.ros.messages.detections_3d import Depths, median_depths
from aopsam_ros.ros.monitoring.statistics import Statistics
from aopsam_ros.ros.pairing import DepthBuffer, Frame, SegmentedFrame
from aopsam_ros.ros.publishers import Publishers
from aopsam_ros.ros.transforms import Transform


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
        self._publishers, self._statistics = publishers, statistics
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
        try:
            depth = self.depth.wait_for(frame)
        except InputError:  # masks are united by what else is known of them
            return None
        try:
            return None if depth is None else median_depths(segmentation, frame.image.header, depth)
        except InputError as error:
            self._on_failure(f"masks are united without depth: {error}")
            return None

    def publish(self, segmented: SegmentedFrame) -> None:
        """Publish what is wanted beside the masks; that something is missing is no error."""
        transform, is_located = None, True
        try:
            transform = self._publishers.transform_of(segmented.frame)
        except InputError as error:  # markers are as right in the camera's own frame
            is_located = False
            if self._publishers.needs_depth:
                self._not_located(error)
            else:
                self._on_failure(f"markers are in the camera's frame: {error}")
        self._publishers.publish_views(segmented, transform)
        if segmented.calibration is not None and self._publishers.subscribed("prompt_markers"):
            size = segmented.segmentation.height, segmented.segmentation.width
            reason = calibration_mismatch(
                segmented.calibration, *size, segmented.frame.image.header
            )
            if reason:
                self._on_failure(f"markers without a calibration: {reason}")
        if self._publishers.needs_depth and is_located:
            self._publish_3d(segmented, transform)
        elif self._publishers.needs_depth:  # `~/select` answers in the camera's own frame
            with contextlib.suppress(InputError):
                self._take_depth(segmented)

    def _publish_3d(self, segmented: SegmentedFrame, transform: Transform | None) -> None:
        """Publish where the masks are in space, once the image's depth has come."""
        try:
            self._take_depth(segmented)
            if segmented.depth is not None:
                self._publishers.publish_3d(segmented, segmented.depth, transform)
        except InputError as error:
            self._not_located(error)

    def _take_depth(self, segmented: SegmentedFrame) -> None:
        """Wait for an image's depth, and keep it; errors as of `DepthBuffer.wait_for`."""
        segmented.depth = self.depth.wait_for(segmented.frame)
        segmented.calibration = self.calibration  # the first one may have come meanwhile

    def _not_located(self, error: InputError) -> None:
        self._statistics.on_incomplete("not_located", str(error))
        self._on_failure(f"no boxes in space: {error}")
