"""The lifecycle node `aopsam`: images in, masks out.

configure loads the model and warms it up, activate subscribes. The executor's thread only receives;
the pipeline's worker thread segments and publishes.
"""

from __future__ import annotations

import signal
import sys
import time
import traceback
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.logging import get_logger
from sensor_msgs.msg import CameraInfo, Image

from aopsam_ros.errors import AopsamError
from aopsam_ros.ros.diagnostics import Condition, Statistics, diagnostic_array
from aopsam_ros.ros.inputs import CameraSubscription
from aopsam_ros.ros.lifecycle import answer_impossible_transitions, told
from aopsam_ros.ros.log_bridge import LogBridge
from aopsam_ros.ros.outputs import Outputs
from aopsam_ros.ros.parameters import Parameters
from aopsam_ros.ros.pipeline import Frame, Pipeline, warm_up
from aopsam_ros.segmenter import Segmenter

SILENCE_S = 5.0  # without images, until it is worth a warning
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
        self._inputs: list[CameraSubscription] = []
        self._problem = ""
        self._heard = 0.0
        self._warned = False
        self.parameters = Parameters(self, lambda: self._pipeline is not None)
        self._statistics = Statistics()
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # Simulated time may stand still; diagnostics go on.
        clock = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(REPORT_PERIOD_S, self._report, clock=clock)
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
        except BaseException:
            segmenter.close()
            raise
        self._pipeline = Pipeline(segmenter, Outputs(self), self._statistics, self._warn)
        self.get_logger().info(
            f"configured: model {segmenter.model}, engine {segmenter.engine} "
            f"({segmenter.precision}), prompts from {segmenter.prompt_source}"
        )
        return super().on_configure(state)

    @told
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let results out, then images in."""
        result = super().on_activate(state)
        self._statistics.reset()
        self._heard, self._warned = time.monotonic(), False
        self._running().start()
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
        self._stop()
        if self._pipeline is not None:
            self._pipeline.close()
            self._pipeline = None

    def destroy_node(self) -> None:
        """Free the node; what the library logs goes to Python's logging again."""
        self._log_bridge.close()
        super().destroy_node()

    def _stop(self) -> None:
        for subscription in self._inputs:
            subscription.destroy()
        self._inputs = []
        if self._pipeline is not None:
            self._pipeline.stop()

    def _running(self) -> Pipeline:
        """Return the pipeline, which a configured node has."""
        if self._pipeline is None:
            raise RuntimeError("the node is not configured")
        return self._pipeline

    # Messages

    def _on_camera_info(self, message: CameraInfo) -> None:
        if self._pipeline is not None:
            self._pipeline.calibration = message

    def _on_image(self, message: Image) -> None:
        received = time.monotonic()
        self._heard, self._warned = received, False
        if self._pipeline is not None:
            self._pipeline.put(Frame(message, received, self.parameters.configuration()))

    def _warn(self, message: str) -> None:
        if self.context.ok():  # everything fails once ROS is being shut down
            self.get_logger().warning(message, throttle_duration_sec=WARNING_PERIOD_S)

    # Once a second

    def _report(self) -> None:
        for subscription in self._inputs:
            subscription.adapt()
        silent = bool(self._inputs) and time.monotonic() - self._heard > SILENCE_S
        if silent and not self._warned:
            self._warned = True
            self.get_logger().warning(self._inputs[0].silence(SILENCE_S))
        self._publish_diagnostics(self._condition(silent))

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

    def _condition(self, silent: bool) -> Condition:
        if self._pipeline is None:
            return Condition(problem=self._problem)
        segmenter = self._pipeline.segmenter
        return Condition(
            active=bool(self._inputs),
            model=segmenter.model,
            engine=segmenter.engine,
            precision=segmenter.precision,
            prompt_source=segmenter.prompt_source,
            problem=self._problem,
            silent=silent,
        )


def main(args: list[str] | None = None) -> int:
    """Run the node until it is told to end; 0 then, 1 when a parameter is impossible."""
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
