"""The lifecycle node `aopsam`: images in, masks out.

configure loads the model and warms it up, activate subscribes. The executor's thread only receives;
one worker thread segments the newest image and publishes. An image and the configuration that was
valid when it arrived travel together, so every result comes from exactly one configuration.
"""

from __future__ import annotations

import signal
import sys
import time
import traceback
from dataclasses import dataclass
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import CameraInfo, Image

from aopsam_ros.errors import AopsamError
from aopsam_ros.ros.conversions import image_to_rgb
from aopsam_ros.ros.diagnostics import Condition, Statistics, diagnostic_array
from aopsam_ros.ros.inputs import CameraSubscription
from aopsam_ros.ros.lifecycle import answer_impossible_transitions, told
from aopsam_ros.ros.outputs import Outputs
from aopsam_ros.ros.parameters import Configuration, Parameters
from aopsam_ros.ros.worker import NewestWorker
from aopsam_ros.segmenter import Segmenter

SILENCE_S = 5.0  # without images, until it is worth a warning
WARNING_PERIOD_S = 5.0
REPORT_PERIOD_S = 1.0  # REP 107

_SUCCESS = TransitionCallbackReturn.SUCCESS


@dataclass(frozen=True)
class Frame:
    """An image, when it came (monotonic seconds), and the configuration to work on it with."""

    image: Image
    received: float
    configuration: Configuration


class AopsamNode(LifecycleNode):
    """Segments the images of the topic `image`; docs in the package's README."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401  (rclpy's own)
        """Declare the parameters; everything else waits for configure.

        Raises:
            OptionError: if a parameter's initial value is impossible.
            rclpy.exceptions.ParameterException: likewise.
        """
        super().__init__("aopsam", **options)
        self._segmenter: Segmenter | None = None
        self._outputs: Outputs | None = None
        self._inputs: list[CameraSubscription] = []
        self._calibration: CameraInfo | None = None
        self._problem = ""
        self._heard = 0.0
        self._warned = False
        self.parameters = Parameters(self, lambda: self._segmenter is not None)
        self._statistics = Statistics()
        self._worker = NewestWorker(self._work, self._statistics.on_dropped, "aopsam_worker")
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # Simulated time may stand still; diagnostics go on.
        clock = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(REPORT_PERIOD_S, self._report, clock=clock)
        answer_impossible_transitions(self)

    def set_problem(self, problem: str) -> None:
        """Keep why a transition failed, for the diagnostics."""
        self._problem = problem

    def autostart(self) -> None:
        """Configure and activate."""
        if self.trigger_configure() == _SUCCESS:
            self.trigger_activate()

    # Transitions

    @told
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and create the result topics."""
        startup = self.parameters.startup()
        segmenter = Segmenter.from_bundle(
            startup.model, startup.engine, startup.prompt_source, startup.threads
        )
        try:
            self.parameters.follow(segmenter.options)
            warm_up(segmenter)
        except BaseException:
            segmenter.close()
            raise
        self._segmenter, self._outputs = segmenter, Outputs(self)
        self._problem = ""
        self.get_logger().info(
            f"configured: model {segmenter.model}, engine {segmenter.engine}, "
            f"prompts from {segmenter.prompt_source}"
        )
        return super().on_configure(state)

    @told
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let results out, then images in."""
        result = super().on_activate(state)
        self._statistics.reset()
        self._heard, self._warned = time.monotonic(), False
        self._worker.start()
        self._inputs = [
            CameraSubscription(self, Image, "image", self._on_image),
            CameraSubscription(self, CameraInfo, "camera_info", self._on_camera_info),
        ]
        self.get_logger().info(f"active: segmenting images of {self._inputs[0].topic}")
        return result

    @told
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop listening, finish the image that is being worked on, take the markers away."""
        self._stop()
        if self._outputs is not None:
            self._outputs.clear()
        return super().on_deactivate(state)

    @told
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model and the result topics."""
        self.release()
        return super().on_cleanup(state)

    @told
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything, whatever the state."""
        self.release()
        return super().on_shutdown(state)

    @told
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything, so that the node can be configured again."""
        self.release()
        return super().on_error(state)

    def release(self) -> None:
        """Stop and free everything that configure and activate made; harmless when repeated."""
        self._stop()
        if self._outputs is not None:
            self._outputs.destroy()
            self._outputs = None
        if self._segmenter is not None:
            self._segmenter.close()
            self._segmenter = None

    def _stop(self) -> None:
        for subscription in self._inputs:
            subscription.destroy()
        self._inputs = []
        self._worker.stop()
        self._calibration = None

    # Images: received in the executor's thread, worked on in the worker's

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._calibration = message

    def _on_image(self, message: Image) -> None:
        received = time.monotonic()
        self._heard, self._warned = received, False
        self._statistics.on_received()
        self._worker.put(Frame(message, received, self.parameters.configuration()))

    def _work(self, frame: Frame) -> None:
        """Segment an image; whatever is wrong with it, the next one gets its chance."""
        try:
            self._segment(frame)
        except AopsamError as error:
            self._on_failure(str(error), f"image skipped: {error}")
        except Exception as error:
            self._on_failure(repr(error), f"image skipped:\n{traceback.format_exc()}")

    def _segment(self, frame: Frame) -> None:
        if self._segmenter is None or self._outputs is None:
            return
        header = frame.image.header
        rgb = image_to_rgb(frame.image)
        segmentation = self._segmenter.segment(rgb, frame.configuration.options)
        self._outputs.publish_masks(segmentation, header)
        self._statistics.on_segmented(segmentation, time.monotonic() - frame.received)
        self._outputs.publish_views(
            segmentation, rgb, header, self._calibration, frame.configuration
        )

    def _on_failure(self, reason: str, message: str) -> None:
        if not self.context.ok():
            return  # everything fails once ROS is being shut down
        self._statistics.on_failed(reason)
        self.get_logger().warning(message, throttle_duration_sec=WARNING_PERIOD_S)

    # Once a second

    def _report(self) -> None:
        for subscription in self._inputs:
            subscription.adapt()
        silent = bool(self._inputs) and time.monotonic() - self._heard > SILENCE_S
        if silent and not self._warned:
            self._warned = True
            self.get_logger().warning(self._inputs[0].silence(SILENCE_S))
        stamp = self.get_clock().now().to_msg()
        name = self.get_fully_qualified_name().lstrip("/")
        report, condition = self._statistics.report(), self._condition(silent)
        self._diagnostics.publish(diagnostic_array(name, stamp, report, condition))

    def _condition(self, silent: bool) -> Condition:
        segmenter = self._segmenter
        if segmenter is None:
            return Condition(problem=self._problem)
        return Condition(
            active=bool(self._inputs),
            model=segmenter.model,
            engine=segmenter.engine,
            prompt_source=segmenter.prompt_source,
            problem=self._problem,
            silent=silent,
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


def main(args: list[str] | None = None) -> int:
    """Run the node until it is told to end; 0 then, 1 when a parameter is impossible."""
    node = None
    try:
        rclpy.init(args=args)
        node = AopsamNode()
        spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (AopsamError, ParameterException) as error:
        rclpy.logging.get_logger("aopsam").fatal(str(error))
        return 1
    finally:
        finish(node)
    return 0


def spin(node: AopsamNode) -> None:
    """Serve the node's callbacks; one that fails is logged and does not end the node."""
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    if node.parameters.autostart:
        node.autostart()
    while rclpy.ok():
        try:
            executor.spin_once()
        except ExternalShutdownException:
            return
        except Exception:
            node.get_logger().error(f"a callback failed:\n{traceback.format_exc()}")


def finish(node: AopsamNode | None) -> None:
    """End the worker and ROS; a second Ctrl-C must not turn a clean end into a traceback."""
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, signal.SIG_IGN)
    if node is not None:
        node.release()
        node.destroy_node()
    rclpy.try_shutdown()


if __name__ == "__main__":
    sys.exit(main())
