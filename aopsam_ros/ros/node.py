"""The lifecycle node `aopsam`: images in, masks out.

configure loads the model and warms it up, activate subscribes. The executor's thread only receives;
the pipeline's workers segment and publish.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.logging import get_logger
from sensor_msgs.msg import CompressedImage, Image

from aopsam_ros.errors import AopsamError
from aopsam_ros.ros.frame import Frame
from aopsam_ros.ros.lifecycle import answer_impossible_transitions, forget_destroyed, told
from aopsam_ros.ros.monitoring.diagnostics import Condition, diagnostic_array
from aopsam_ros.ros.monitoring.log_bridge import LogBridge
from aopsam_ros.ros.monitoring.malloc import give_back_freed_memory, keep_freed_memory
from aopsam_ros.ros.monitoring.memory import resident_mb
from aopsam_ros.ros.monitoring.statistics import Statistics
from aopsam_ros.ros.monitoring.throttle import Throttle
from aopsam_ros.ros.parameters import Parameters
from aopsam_ros.ros.pipeline import Pipeline, warm_up
from aopsam_ros.ros.process import finish, spin
from aopsam_ros.ros.publishers import Outputs
from aopsam_ros.ros.segment_service import SegmentService
from aopsam_ros.ros.subscriptions import Inputs
from aopsam_ros.segmentation.segmenter import Segmenter

WARNING_PERIOD_S = 5.0
REPORT_PERIOD_S = 1.0  # REP 107
LOADING_PERIOD_S = 10.0  # between two lines of the log

_SUCCESS = TransitionCallbackReturn.SUCCESS


class AopsamNode(LifecycleNode):
    """Segments the images of the topic `image`; docs in the package's README."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401  (rclpy's own)
        """Declare the parameters; everything else waits for configure.

        Raises:
            OptionError: if a parameter's initial value is impossible.
            rclpy.exceptions.ParameterException: likewise.
        """
        super().__init__("aopsam", **options)
        self._pipeline: Pipeline | None = None
        self._inputs: Inputs | None = None
        self._problem = ""
        self.parameters = Parameters(self, lambda: self._pipeline is not None)
        self._statistics = Statistics()
        self._throttle = Throttle(WARNING_PERIOD_S)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # Simulated time may stand still; diagnostics go on.
        clock = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(REPORT_PERIOD_S, self._report, clock=clock)
        self._segment_service = SegmentService(
            self,
            lambda: self._pipeline,
            lambda: self.parameters.configuration().segment_timeout_ms,
        )
        answer_impossible_transitions(self)
        self._log_bridge = LogBridge(self.get_logger())
        self._log_bridge.open()

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
        self._problem = ""
        segmenter = Segmenter.from_bundle(
            startup.model,
            startup.engine,
            startup.prompt_source,
            startup.threads,
            startup.precision,
            self._report_loading,
        )
        try:
            self.parameters.follow(segmenter.options)
            warm_up(segmenter)
            outputs = Outputs(self)
        except BaseException:
            segmenter.close()
            raise
        boxes_topic = self.resolve_topic_name("boxes")
        workers = startup.workers if segmenter.concurrent else 1
        if workers < startup.workers:
            self.get_logger().warning(
                f"engine {segmenter.engine} takes one image at a time: 1 worker"
            )
        self._pipeline = Pipeline(
            segmenter, outputs, self._statistics, self._warn, boxes_topic, workers
        )
        self.get_logger().info(
            f"configured: model {segmenter.model}, engine {segmenter.engine} "
            f"({segmenter.precision}), prompts from {segmenter.prompt_source}"
        )
        return super().on_configure(state)

    @told
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe, and let results out."""
        pipeline = self._running()
        transport = self.parameters.startup().image_transport
        # First what may fail. Nothing is received before this callback has returned.
        callbacks = {**pipeline.callbacks, "image": self._on_image}
        self._inputs = Inputs(self, transport, callbacks, pipeline.wants)
        self._statistics.reset()
        pipeline.start()
        self.get_logger().info(f"active: segmenting images of {self._inputs.image_topic}")
        return super().on_activate(state)

    @told
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop listening, finish the image that is being worked on, take the markers away."""
        self._stop()
        self._running().clear()
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
        try:
            self._stop()
        finally:
            # Let go of first: what cannot be freed must not be freed again and again.
            pipeline, self._pipeline = self._pipeline, None
            if pipeline is not None:
                pipeline.close()
                give_back_freed_memory()

    def destroy_node(self) -> None:
        """Free the node; what the library logs goes to Python's logging again."""
        self._log_bridge.close()
        super().destroy_node()

    def _stop(self) -> None:
        inputs, self._inputs = self._inputs, None
        if inputs is not None:
            inputs.destroy()
        if self._pipeline is not None:
            self._pipeline.stop()
        self._segment_service.refuse_all()

    def _running(self) -> Pipeline:
        """Return the pipeline, which a configured node has."""
        if self._pipeline is None:
            raise RuntimeError("the node is not configured")
        return self._pipeline

    # Messages

    def _on_image(self, message: Image | CompressedImage) -> None:
        frame = Frame(message, time.monotonic(), self.parameters.configuration())
        self._running().put(frame)

    def _warn(self, message: str) -> None:
        # Everything fails once ROS is being shut down.
        if self.context.ok() and self._throttle.passes(message):
            self.get_logger().warning(message)

    def on_callback_failed(self, trace: str) -> None:
        """Tell of a callback that raised; the node goes on."""
        message = f"a callback failed:\n{trace}"
        if self._throttle.passes(message):
            self.get_logger().error(message)

    # Once a second

    def _report(self) -> None:
        if self._inputs is not None:
            self._inputs.adapt()
        self._segment_service.expire()
        forget_destroyed(self)
        if self._pipeline is not None:
            self._pipeline.expire()
        self._publish_diagnostics(self._condition())

    def _report_loading(self, what: str, share: float | None, seconds: float) -> None:
        """Say in log and diagnostics that configure goes on; called once a second meanwhile."""
        done = "" if share is None else f", {share:.0%}"
        message = f"{what}: {seconds:.0f} s{done}"
        self.get_logger().info(message, throttle_duration_sec=LOADING_PERIOD_S)
        self._publish_diagnostics(Condition(loading=message))

    def _publish_diagnostics(self, condition: Condition) -> None:
        stamp = self.get_clock().now().to_msg()
        name = self.get_fully_qualified_name().lstrip("/")
        report = self._statistics.report()
        self._diagnostics.publish(diagnostic_array(name, stamp, report, condition))

    def _condition(self) -> Condition:
        if self._pipeline is None:
            return Condition(problem=self._problem)
        segmenter = self._pipeline.segmenter
        limits = self.parameters.configuration().limits
        return Condition(
            active=self._inputs is not None,
            model=segmenter.model,
            engine=segmenter.engine,
            precision=segmenter.precision,
            prompt_source=segmenter.prompt_source,
            problem=self._problem,
            busy_s=self._pipeline.busy_s,
            silent=self._inputs is not None and self._inputs.silent,
            memory_mb=resident_mb(),
            gpu_memory_mb=self._pipeline.gpu_memory.used_mb(),
            max_latency_ms=limits.max_latency_ms,
            min_rate_hz=limits.min_rate_hz,
        )


def main(args: list[str] | None = None) -> int:
    """Run the node until it is told to end; 0 then, 1 when a parameter is impossible."""
    keep_freed_memory()
    rclpy.init(args=args)
    node = None
    try:
        node = AopsamNode()
        spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (AopsamError, ParameterException) as error:
        get_logger("aopsam").fatal(str(error))
        return 1
    except Exception:
        if rclpy.ok():
            raise
        # A signal during start: everything fails once ROS is being shut down.
    finally:
        finish(node)
    return 0


if __name__ == "__main__":
    sys.exit(main())
