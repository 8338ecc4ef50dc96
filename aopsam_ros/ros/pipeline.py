"""From an image message to published results: workers, always on the newest image."""

import contextlib
import math
import threading
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from aopsam_ros.errors import AopsamError, BundleError, InputError
from aopsam_ros.images.compressed import RgbImage
from aopsam_ros.images.encodings import to_rgb
from aopsam_ros.prompting.boxes import Boxes
from aopsam_ros.results import Segmentation
from aopsam_ros.ros.messages.boxes import boxes_of, with_labels
from aopsam_ros.ros.messages.images import bridge_reader
from aopsam_ros.ros.monitoring.memory import GpuMemory
from aopsam_ros.ros.monitoring.statistics import Statistics
from aopsam_ros.ros.pairing import BoxPairing, Frame, SegmentedFrame, nanoseconds
from aopsam_ros.ros.parameter_table import FrameConfiguration
from aopsam_ros.ros.publishers import Publishers
from aopsam_ros.ros.shared_engines import FairTurns
from aopsam_ros.ros.views import Views
from aopsam_ros.ros.worker import NewestWorker, Wait
from aopsam_ros.segmentation.segmenter import FrameEmbedding, Segmenter
from aopsam_ros.streaming.follower import Follower, TargetState
from aopsam_ros.streaming.stream_segmenter import Annotate, StreamSegmenter

if TYPE_CHECKING:
    from aopsam_ros.labels.labeller import Labeller


class Pipeline:
    """A loaded model, the result topics, and the threads between them.

    Attributes:
        segmenter: the model.
        worker: does everything with the segmenter, so that no two threads use one that is not
            `engine.concurrent`; segments images once it is started.
        publishers: of the result topics.
        pairing: of images with a detector's boxes.
        newest: the newest image received; None before the first.
        labeller: gives masks their labels; None: they get none.
        segmented: the image whose masks were published last, and these; None before the first.
        follower: follows a thing from frame to frame, see `follow`; None: nobody asked for it.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        publishers: Publishers,
        statistics: Statistics,
        configuration: Callable[[], FrameConfiguration],
        on_failure: Callable[[str], None],
        boxes_topic: str = "boxes",
        workers: int = 1,
        turns: FairTurns | None = None,
        open_labeller: "Callable[[], Labeller] | None" = None,
    ) -> None:
        """Take over segmenter and publishers.

        `configuration` returns the parameters of an image that is received now, `on_failure` is
        called with the reason why one was skipped, `boxes_topic` is for messages to the user. So
        many images as `workers` are segmented side by side, with results in their order: for more
        than one the engine must be `concurrent`. Each takes one of `turns` to use the engine.
        `open_labeller` makes what gives masks labels.
        """
        self.segmenter = segmenter
        self.newest: Frame | None = None
        self.labeller: Labeller | None = None
        self.segmented: SegmentedFrame | None = None
        self._open_labeller, self._labeller_lock = open_labeller, threading.Lock()
        self.follower: Follower | None = None
        self._choosing = threading.Lock()  # held while `follower` is compared and replaced
        self.gpu_memory = GpuMemory(segmenter.engine.device)
        self._stream = StreamSegmenter(segmenter)
        self._read = bridge_reader()
        self.publishers = publishers
        self._views = Views(publishers, statistics, on_failure, workers)
        self._statistics = statistics
        self._configuration = configuration
        self._on_failure = on_failure
        self._turns = turns
        self.worker = NewestWorker(
            self.process, statistics.on_dropped, statistics.on_failed, workers, turns
        )
        self.pairing = BoxPairing(boxes_topic, self.worker.put, statistics.on_dropped, self._fail)

    def stop(self) -> None:
        """Finish the image or request that is being worked on."""
        self._views.depth.clear()  # nobody waits for it any more, nor for TF
        self.publishers.stop_waiting()
        self.worker.stop()
        self._views.depth.set_needed(False)  # when it is again, it is given time to begin
        self.pairing.clear()
        self._stream.reset()
        self._views.calibration = self.newest = self.segmented = None
        self.follow(None)

    def close(self) -> None:
        """Stop, and free the topics and the model; a model still in use is not freed."""
        with contextlib.ExitStack() as parts:  # each is freed, whatever another one raises
            parts.callback(self.publishers.destroy)
            self.stop()
            parts.callback(self.gpu_memory.close)
            parts.callback(self.segmenter.close)
            if self.labeller is not None:
                parts.callback(self.labeller.close)

    def on_image(self, message: Image | CompressedImage) -> None:
        """Take an image with the parameters of now; the one that waits is dropped."""
        self._statistics.on_received()
        configuration = self._configuration()
        self.publishers.listen_to_transforms(bool(configuration.target_frame))
        self.put(Frame(message, time.monotonic(), configuration))

    def put(self, frame: Frame) -> None:
        """Hand over an image; the one that waits is dropped."""
        self.newest = frame
        if self.segmenter.source.needs_boxes:
            self.pairing.put_image(frame)
        else:
            self.worker.put(frame)

    @property
    def last_image_s(self) -> float:
        """When the newest image came, monotonic seconds; in the remote past before the first."""
        return self.newest.received if self.newest else -math.inf

    @property
    def callbacks(self) -> dict[str, Callable[[Any], None]]:
        """What takes messages, by topic."""
        return {
            "image": self.on_image,
            "camera_info": self._views.put_calibration,
            "boxes": self.pairing.put_boxes,
            "depth": self._views.depth.put,
        }

    def wants(self, topic: str) -> bool:
        """Return whether a topic is needed at the moment."""
        if topic == "depth":
            labels = self._configuration().labels
            has_labels = self.labeller is not None or self.segmenter.source.needs_boxes
            unites = has_labels and labels.merge and labels.depth_tolerance > 0
            return self._views.want_depth(for_labels=unites)
        return topic != "boxes" or self.segmenter.source.needs_boxes

    def process(self, frame: Frame, wait: Wait) -> None:
        """Segment an image and publish what was found; an error ends only this image.

        `wait` returns when all images before have been processed.
        """
        header, configuration = frame.image.header, frame.configuration
        if self._views.depth.needed:
            self._views.depth.expect(header)
        try:
            rgb = to_rgb(frame.image, self._read)
            has_crops = self.segmenter.crop_layers(configuration.options) > 0
            follower = None if has_crops else self.follower
            if follower is not None:
                wait()  # another worker's frame has it with its own options
                follower.options = configuration.follow
            boxes = None if frame.boxes is None else boxes_of(frame.boxes)
            segmentation = self._stream.segment(
                rgb,
                nanoseconds(header) if configuration.tracking else 0,
                configuration.options,
                boxes,
                reuse=configuration.reuse,
                tracking=configuration.tracking,
                hysteresis=configuration.hysteresis,
                annotate=self._annotate(frame, boxes),
                follower=follower,
                edges=self.publishers.subscribed("edges"),
                wait=wait,
            )
            self.publishers.publish(segmentation, header)
            segmented = SegmentedFrame(frame, rgb, segmentation, self._views.calibration)
            self.segmented = segmented
            if follower is not None:
                self._publish_target(follower, header, rgb)
        except AopsamError as error:
            if isinstance(error, BundleError):  # it was replaced: only following loads a graph now
                self.follow(None)
            self._fail(str(error))
            return
        except Exception as error:
            self._fail(repr(error), traceback.format_exc())
            return
        if self._turns is not None:
            self._turns.end()  # the rest needs no engine
        self._statistics.on_segmented(segmentation, time.monotonic() - frame.received, rgb)
        try:
            self._views.publish(segmented)
        except Exception as error:  # the masks are out: the image has not failed
            self._statistics.on_incomplete("not_shown", repr(error))
            self._on_failure(f"shown in part only: {traceback.format_exc()}")
        self._statistics.measure_flicker()  # last: nothing of the image is to wait for it

    def make_labeller(self) -> "Labeller":
        """Return what gives masks their labels; made now where there is none yet.

        The caller has a turn, where turns are taken.

        Raises:
            AopsamError: if the label set or the model that it needs cannot be had.
            TimeoutError: if no turn comes after another thread has made it.
        """
        with contextlib.ExitStack() as held:
            if not self._labeller_lock.acquire(blocking=False):
                # Another thread makes it, and needs a turn to finish, perhaps this thread's.
                with contextlib.nullcontext() if self._turns is None else self._turns.paused():
                    held.enter_context(self._labeller_lock)
            else:
                held.callback(self._labeller_lock.release)
            if self.labeller is None:
                if self._open_labeller is None:
                    raise InputError("this pipeline has no labels")
                self.labeller = self._open_labeller()
            return self.labeller

    def _annotate(self, frame: Frame, boxes: Boxes | None) -> Annotate | None:
        """Return what labels a frame's masks, and unites them; a detector's classes go first."""
        if self.labeller is None and boxes is None:
            return None
        labeller, options = self.labeller, frame.configuration.labels

        def annotate(
            rgb: RgbImage, embedding: FrameEmbedding, segmentation: Segmentation
        ) -> Segmentation:
            if labeller is not None:
                segmentation = labeller.label(rgb, embedding, segmentation, options)
            if boxes is not None:
                segmentation = with_labels(segmentation, boxes, frame.boxes)
            return self._unite(frame, segmentation) if options.merge else segmentation

        return annotate

    def _unite(self, frame: Frame, segmentation: Segmentation) -> Segmentation:
        """Unite the masks of one label that show one thing."""
        if not any(mask.label for mask in segmentation.masks):
            return segmentation
        from aopsam_ros.labels.composing import compose  # takes 30 MB: only where it is wanted

        options = frame.configuration.labels
        depths = self._views.depths_of(frame, segmentation) if options.depth_tolerance else None
        return compose(segmentation, depths, options.depth_tolerance, options.merge_affinity)

    def follow(self, follower: Follower | None) -> None:
        """Follow a thing from now on, or none; in any thread."""
        with self._choosing:
            self.follower = follower

    def _publish_target(self, follower: Follower, header: Header, rgb: RgbImage) -> None:
        """Publish where the thing that is followed is; it may have been given up."""
        target = follower.target
        with self._choosing:
            if target is None or follower is not self.follower:
                return  # another one was chosen meanwhile
            if target.state == TargetState.GIVEN_UP:
                self.follower = None
            self.publishers.publish_target(target, header, rgb)

    def _fail(self, reason: str, details: str = "") -> None:
        self._statistics.on_failed(reason)
        self._on_failure(f"image skipped: {details or reason}")


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
    boxes = Boxes.from_rows([[0, 0, side, side]]) if segmenter.source.needs_boxes else None
    segmenter.segment(image, options, boxes)
