"""From an image message to published results: one worker thread, always on the newest image."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from aopsam_ros.errors import AopsamError
from aopsam_ros.ros.compressed import compressed_to_rgb
from aopsam_ros.ros.conversions import RgbImage, image_to_rgb
from aopsam_ros.ros.diagnostics import Statistics
from aopsam_ros.ros.outputs import Outputs
from aopsam_ros.ros.parameters import Configuration
from aopsam_ros.ros.worker import NewestWorker
from aopsam_ros.segmenter import Segmenter


@dataclass(frozen=True)
class Frame:
    """An image, when it came (monotonic seconds), and the configuration to work on it with.

    They travel together: whatever is published for an image comes from exactly one configuration.
    """

    image: Image | CompressedImage
    received: float
    configuration: Configuration

    def rgb(self) -> RgbImage:
        """Return the image's pixels, uint8 `[H, W, 3]`.

        Raises:
            InputError: if the message is damaged or in a format not known here.
        """
        if isinstance(self.image, CompressedImage):
            return compressed_to_rgb(self.image)
        return image_to_rgb(self.image)


class Pipeline:
    """A loaded model, the result topics, and the thread between them."""

    def __init__(
        self,
        segmenter: Segmenter,
        outputs: Outputs,
        statistics: Statistics,
        on_failure: Callable[[str], None],
    ) -> None:
        """Take over segmenter and outputs; `on_failure` is told why an image was skipped."""
        self.segmenter = segmenter
        self._calibration: CameraInfo | None = None
        self._outputs = outputs
        self._statistics = statistics
        self._on_failure = on_failure
        self._worker = NewestWorker(self._work, statistics.on_dropped, "aopsam_worker")

    def start(self) -> None:
        """Begin to work."""
        self._worker.start()

    def stop(self) -> None:
        """Finish the image that is being worked on."""
        self._worker.stop()
        self._calibration = None

    def clear(self) -> None:
        """Take away what stays on a screen."""
        self._outputs.clear()

    def close(self) -> None:
        """Stop, and free the topics and the model."""
        self.stop()
        self._outputs.destroy()
        self.segmenter.close()

    def put(self, frame: Frame) -> None:
        """Hand over an image; the one that waits is dropped."""
        self._statistics.on_received()
        self._worker.put(frame)

    def on_camera_info(self, message: CameraInfo) -> None:
        """Take the camera's calibration for the frames to come."""
        self._calibration = message

    def _work(self, frame: Frame) -> None:
        """Segment an image; whatever is wrong with it, the next one gets its chance."""
        try:
            self._segment(frame)
        except AopsamError as error:
            self._fail(str(error), str(error))
        except Exception as error:
            self._fail(repr(error), traceback.format_exc())

    def _fail(self, reason: str, details: str) -> None:
        self._statistics.on_failed(reason)
        self._on_failure(f"image skipped: {details}")

    def _segment(self, frame: Frame) -> None:
        header = frame.image.header
        rgb = frame.rgb()
        segmentation = self.segmenter.segment(rgb, frame.configuration.options)
        self._outputs.publish_masks(segmentation, header)
        self._statistics.on_segmented(segmentation, time.monotonic() - frame.received)
        self._outputs.publish_views(
            segmentation, rgb, header, self._calibration, frame.configuration
        )


def warm_up(segmenter: Segmenter) -> None:
    """Run every graph once: engines allocate and optimise on their first run.

    Raises:
        InferenceError: if a graph fails.
    """
    side = segmenter.bundle.image_size
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    options = segmenter.options.updated(
        {
            # Even noise gets a batch of prompts; a grid's hundreds are cut short.
            "asf.confidence_threshold": 0.0,
            "asf.max_prompts": segmenter.options.asf.batch_size,
            "asf.time_budget_ms": 1000,
        }
    )
    segmenter.segment(image, options)
