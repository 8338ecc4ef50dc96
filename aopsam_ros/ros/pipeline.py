"""From an image message to published results: workers, always on the newest image."""

from __future__ import annotations

import contextlib
import functools
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from aopsam_ros.errors import AopsamError, InputError
from aopsam_ros.prompting.boxes import Boxes
from aopsam_ros.results import Segmentation
from aopsam_ros.ros import prompt_requests
from aopsam_ros.ros.frame import Frame
from aopsam_ros.ros.messages.boxes import boxes_of, with_labels
from aopsam_ros.ros.messages.camera import calibration_mismatch
from aopsam_ros.ros.messages.images import RgbImage
from aopsam_ros.ros.monitoring.memory import GpuMemory
from aopsam_ros.ros.monitoring.statistics import Statistics
from aopsam_ros.ros.pairing import BoxPairing, DepthBuffer, nanoseconds
from aopsam_ros.ros.publishers import Publishers
from aopsam_ros.ros.turns import Turn
from aopsam_ros.ros.worker import Job, NewestWorker
from aopsam_ros.segmentation.promptable import FrameEmbedding
from aopsam_ros.segmentation.segmenter import Segmenter
from aopsam_ros.segmentation.stopwatch import Stopwatch
from aopsam_ros.srv import Segment
from aopsam_ros.streaming import StreamTracker
from aopsam_ros.streaming.reuse import FrameReuse


class Pipeline:
    """A loaded model, the result topics, and the threads between them."""

    def __init__(
        self,
        segmenter: Segmenter,
        publishers: Publishers,
        statistics: Statistics,
        on_failure: Callable[[str], None],
        boxes_topic: str = "boxes",
        workers: int = 1,
    ) -> None:
        """Take over segmenter and publishers; `on_failure` is told why an image was skipped.

        So many images are segmented side by side; for more than one, the segmenter must be
        `concurrent`. Results come in the order of the images.
        """
        self.segmenter = segmenter
        self.running = False
        self._calibration: CameraInfo | None = None
        self._newest: Frame | None = None
        self._depth = DepthBuffer()
        self.gpu_memory = GpuMemory(segmenter.device)
        self._tracker = StreamTracker()
        self._reuse = FrameReuse()
        self._publishers = publishers
        self._statistics = statistics
        self._on_failure = on_failure
        self._worker = NewestWorker(
            self._work, statistics.on_dropped, statistics.on_failed, "aopsam_worker", workers
        )
        self._pairing = BoxPairing(boxes_topic, self._worker.put, statistics.on_dropped, self._miss)

    def start(self) -> None:
        """Begin to work."""
        self._worker.start()
        self.running = True

    def stop(self) -> None:
        """Finish the image or request that is being worked on."""
        self.running = False
        self._depth.clear()  # nobody waits for it any more
        self._worker.stop()
        self._pairing.clear()
        self._tracker.reset()
        self._reuse.reset()
        self._calibration = self._newest = None

    def clear(self) -> None:
        """Take away what stays on a screen."""
        self._publishers.clear()

    def close(self) -> None:
        """Stop, and free the topics and the model; a model still in use is not freed."""
        with contextlib.ExitStack() as parts:  # each is freed, whatever another one raises
            parts.callback(self._publishers.destroy)
            self.stop()
            parts.callback(self.gpu_memory.close)
            parts.callback(self.segmenter.close)

    @property
    def busy_s(self) -> float:
        """For how long the image or request at hand has been worked on; 0 where none is."""
        return self._worker.busy_s

    def put(self, frame: Frame) -> None:
        """Hand over an image; the one that waits is dropped."""
        self._statistics.on_received()
        self._newest = frame
        if self.segmenter.needs_boxes:
            self._pairing.put_image(frame)
        else:
            self._worker.put(frame)

    def expire(self) -> None:
        """Give up images whose boxes did not come; called once a second."""
        self._pairing.expire()

    def submit(self, task: Job) -> bool:
        """Have something done between two images; False where too much waits already."""
        return self._worker.submit(task)

    def answer(self, request: Segment.Request) -> Segment.Response:
        """Answer a request of `~/segment`; to be called in a task."""
        try:
            return prompt_requests.answer(self.segmenter, request, self._newest)
        except AopsamError as error:
            return Segment.Response(success=False, message=str(error))
        except Exception as error:
            self._on_failure(f"a request failed: {traceback.format_exc()}")
            return Segment.Response(success=False, message=repr(error))

    @property
    def callbacks(self) -> dict[str, Callable[[Any], None]]:
        """What takes the messages that come beside the images, by topic."""
        return {
            "camera_info": self._on_camera_info,
            "boxes": self._pairing.put_boxes,
            "depth": self._depth.put,
        }

    def wants(self, topic: str) -> bool:
        """Tell whether a topic is needed at the moment."""
        if topic == "depth":
            self._depth.set_needed(self._publishers.needs_depth)
            return self._publishers.needs_depth
        return topic != "boxes" or self.segmenter.needs_boxes

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._calibration = message

    def _work(self, frame: Frame, turn: Turn) -> None:
        """Segment an image; whatever is wrong with it, the next one gets its chance."""
        try:
            self._segment(frame, turn)
        except AopsamError as error:
            self._fail(str(error), str(error))
        except Exception as error:
            self._fail(repr(error), traceback.format_exc())

    def _miss(self, reason: str) -> None:
        self._fail(reason, reason)

    def _fail(self, reason: str, details: str) -> None:
        self._statistics.on_failed(reason)
        self._on_failure(f"image skipped: {details}")

    def _segment(self, frame: Frame, turn: Turn) -> None:
        header = frame.image.header
        rgb = frame.rgb()
        if frame.configuration.reuse is not None:
            turn.wait()  # it builds on the frame before
        segmentation, encoded = self._found(frame, rgb)
        turn.wait()
        segmentation = self._identified(frame, rgb, segmentation, encoded)
        self._publishers.publish(segmentation, header)
        self._statistics.on_segmented(segmentation, time.monotonic() - frame.received)
        try:
            self._show(frame, rgb, segmentation)
        except Exception as error:  # the masks are out: the image has not failed
            self._statistics.on_not_shown(repr(error))
            self._on_failure(f"shown in part only: {traceback.format_exc()}")

    def _show(self, frame: Frame, rgb: RgbImage, segmentation: Segmentation) -> None:
        """Publish what is wanted beside the masks."""
        header = frame.image.header
        self._publishers.publish_views(
            segmentation, rgb, header, self._calibration, frame.configuration
        )
        if self._publishers.subscribed("prompt_markers"):
            self._check_calibration(segmentation, header)
        if self._publishers.needs_depth:
            self._locate(frame, segmentation)

    def _check_calibration(self, segmentation: Segmentation, header: Header) -> None:
        """Say why markers do not stand in space, though a calibration came."""
        if self._calibration is None:
            return
        size = segmentation.height, segmentation.width
        if reason := calibration_mismatch(self._calibration, *size, header):
            self._on_failure(f"markers without a calibration: {reason}")

    def _found(self, frame: Frame, rgb: RgbImage) -> tuple[Segmentation, FrameEmbedding | None]:
        """Segment an image; encoded by itself where that is needed for more."""
        options, tracking = frame.configuration.options, frame.configuration.tracking
        reuse = frame.configuration.reuse
        boxes = None if frame.boxes is None else boxes_of(frame.boxes)
        if tracking is None and reuse is None:
            return _named(self.segmenter.segment(rgb, options, boxes), boxes, frame), None
        stopwatch = Stopwatch()
        encoded = self.segmenter.encode(rgb, stopwatch, options)
        find = functools.partial(self.segmenter.segment_frame, encoded, options, boxes, stopwatch)
        found = find() if reuse is None else self._reuse.segment(rgb, options, reuse, find)
        return _named(found, boxes, frame), encoded

    def _identified(
        self,
        frame: Frame,
        rgb: RgbImage,
        segmentation: Segmentation,
        encoded: FrameEmbedding | None,
    ) -> Segmentation:
        """Give the masks their objects' ids, where tracking is on; to be called in order."""
        tracking = frame.configuration.tracking
        if frame.configuration.reuse is None:
            self._reuse.reset()  # frames may pass before it is switched on again
        if tracking is None or encoded is None:
            return segmentation
        features = self.segmenter.features(encoded)
        stamp = nanoseconds(frame.image.header)
        return self._tracker.update(rgb, segmentation, features, stamp, tracking)

    def _locate(self, frame: Frame, segmentation: Segmentation) -> None:
        """Publish where the masks are in space; the masks themselves are out already."""
        header, configuration = frame.image.header, frame.configuration
        try:
            depth = self._depth.wait_for(header, configuration.pairing, frame.received)
            if depth is not None:
                self._publishers.publish_3d(
                    segmentation, header, depth, self._calibration, configuration
                )
        except InputError as error:
            self._statistics.on_not_located(str(error))
            self._on_failure(f"no boxes in space: {error}")


def _named(segmentation: Segmentation, boxes: Boxes | None, frame: Frame) -> Segmentation:
    if boxes is None or frame.boxes is None:
        return segmentation
    return with_labels(segmentation, boxes, frame.boxes)


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
            "grid.crop_layers": 0,
        }
    )
    boxes = Boxes.from_rows([[0, 0, side, side]]) if segmenter.needs_boxes else None
    segmenter.segment(image, options, boxes)
