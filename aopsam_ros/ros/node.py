"""The lifecycle node `aopsam`: images in, masks out.

configure loads the model and warms it up, activate subscribes. The executor's thread only receives;
the pipeline's workers segment and publish.
"""

import contextlib
import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos_overriding_options import QoSOverridingOptions

from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.engines.registry import create_engine
from aopsam_ros.prompting.sources import described
from aopsam_ros.ros.lifecycle import (
    guarded_transition,
    refuse_impossible_requests,
    remove_dead_references,
)
from aopsam_ros.ros.monitoring.diagnostics import NodeStatus, diagnostic_array
from aopsam_ros.ros.monitoring.logs import LogBridge, Throttle
from aopsam_ros.ros.monitoring.memory import resident_mb, return_freed_memory
from aopsam_ros.ros.monitoring.statistics import Statistics
from aopsam_ros.ros.parameter_table import Startup
from aopsam_ros.ros.parameters import Parameters
from aopsam_ros.ros.pipeline import Pipeline, warm_up
from aopsam_ros.ros.publishers import Publishers
from aopsam_ros.ros.qos import POLICIES, readable_qos_errors
from aopsam_ros.ros.services.segment_service import SegmentService
from aopsam_ros.ros.services.targets import TargetServices
from aopsam_ros.ros.services.teaching import teach
from aopsam_ros.ros.services.worker_service import WorkerService
from aopsam_ros.ros.shared_engines import FairTurns, SharedEngine
from aopsam_ros.ros.subscriptions import Subscriptions
from aopsam_ros.segmentation.segmenter import MakeEngine, Segmenter
from aopsam_ros.srv import Teach

if TYPE_CHECKING:
    from aopsam_ros.labels.labeller import Labeller

WARNING_PERIOD_S = 5.0
REPORT_PERIOD_S = 1.0  # REP 107
LOADING_LOG_PERIOD_S = 10.0


class AopsamNode(LifecycleNode):
    """Segments the images of the topic `image`; docs/interface.md describes its interface."""

    def __init__(
        self,
        make_engine: MakeEngine = create_engine,
        **options: Any,  # noqa: ANN401  (rclpy's own)
    ) -> None:
        """Declare the parameters; everything else waits for configure.

        `make_engine` loads the model; nodes of one process may share what it returns.

        Raises:
            OptionError: if a parameter's initial value is impossible.
            rclpy.exceptions.ParameterException: likewise.
        """
        super().__init__("aopsam", **options)
        self._make_engine = make_engine
        self._pipeline: Pipeline | None = None
        self._active_subscriptions: Subscriptions | None = None
        self.problem = ""  # why a transition failed, for the diagnostics
        self.parameters = Parameters(
            self, lambda: None if self._pipeline is None else self._pipeline.segmenter
        )
        self._statistics = Statistics()
        self._throttle = Throttle(WARNING_PERIOD_S)
        with readable_qos_errors("/diagnostics"):
            self._diagnostics = self.create_publisher(
                DiagnosticArray,
                "/diagnostics",
                10,
                qos_overriding_options=QoSOverridingOptions(POLICIES),
            )
        # Simulated time may stand still; diagnostics go on.
        clock = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(REPORT_PERIOD_S, self._report, clock=clock)
        configuration = self.parameters.configuration
        self._segment_service = SegmentService(self, configuration, self._warn)
        self._teach_service = WorkerService(self, Teach, "~/teach", configuration, self._warn)
        self._target_services = TargetServices(self)
        refuse_impossible_requests(self, self._warn)
        self._log_bridge = LogBridge(self.get_logger())

    def set_parameters_atomically(self, parameter_list: list[Parameter]) -> SetParametersResult:
        """Set parameters as any node; the reason says where one has no effect at present.

        A callback cannot say so: rclpy drops the reason of a success. Read-only parameters may be
        set to what they are, as by loading a dump.
        """
        changes = [p for p in parameter_list if not self._is_read_only_value(p)]
        if parameter_list and not changes:
            return SetParametersResult(successful=True)
        result = super().set_parameters_atomically(changes)
        if result.successful:
            result.reason = self.parameters.without_effect(p.name for p in changes)
        return result

    def _is_read_only_value(self, parameter: Parameter) -> bool:
        name = parameter.name
        if not (self.has_parameter(name) and self.describe_parameter(name).read_only):
            return False
        return bool(self.get_parameter(name).value == parameter.value)

    def start(self) -> None:
        """Configure and activate, where the parameter `autostart` says so."""
        if not self.parameters.autostart:
            self.get_logger().info(
                "waiting for configure and activate, by a lifecycle manager or `ros2 lifecycle set`"
            )
            return
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    @guarded_transition
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and create the publishers."""
        with self._log_bridge.speaking():
            self._load(self.parameters.startup())
        return super().on_configure(state)

    def _load(self, startup: Startup) -> None:
        engine = EngineOptions(
            engine=startup.engine, precision=startup.precision, threads=startup.threads
        )
        segmenter = Segmenter.from_bundle(
            startup.model, startup.prompt_source, engine, self._report_loading, self._make_engine
        )
        workers = startup.workers if segmenter.engine.concurrent else 1
        if workers < startup.workers:
            self.get_logger().warning(
                f"engine {segmenter.engine.name} takes one image at a time: 1 worker"
            )
        turns = segmenter.engine.turns if isinstance(segmenter.engine, SharedEngine) else None
        if turns is not None:
            turns.limit = max(turns.limit, workers)
        with contextlib.ExitStack() as undone:  # what has been made, where the next thing fails
            undone.callback(segmenter.close)
            self.parameters.follow(segmenter.options)
            with _turn(turns):
                warm_up(segmenter)
            pipeline = Pipeline(
                segmenter,
                Publishers(self),
                self._statistics,
                self.parameters.configuration,
                self._warn,
                self.resolve_topic_name("boxes"),
                workers,
                turns,
                functools.partial(self._open_labeller, segmenter, engine, startup, turns),
            )
            undone.pop_all()
            undone.callback(pipeline.close)
            if startup.labels_file or startup.labels_names:
                with _turn(turns):
                    pipeline.make_labeller()
            undone.pop_all()
        self._pipeline = pipeline
        self.get_logger().info(
            f"configured: model {segmenter.bundle.name}, engine {segmenter.engine.name} "
            f"({segmenter.engine.precision}), prompts from "
            f"{described(segmenter.source, segmenter.bundle.prompter)}"
        )
        if reasons := self.parameters.without_effect(self.parameters.chosen):
            self.get_logger().warning(reasons)

    def _open_labeller(
        self,
        segmenter: Segmenter,
        engine: EngineOptions,
        startup: Startup,
        turns: FairTurns | None,
    ) -> "Labeller":
        from aopsam_ros.labels.labeller import Labeller  # only where labels are wanted

        folder = Path(os.path.expanduser(startup.labels_file)) if startup.labels_file else None
        names = [name for name in map(str.strip, startup.labels_names.split(",")) if name]
        pause = contextlib.nullcontext if turns is None else turns.paused
        with self._log_bridge.speaking():  # in a worker's thread for ~/teach
            return Labeller(segmenter, engine, folder, names, pause)

    @guarded_transition
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe, and start the workers."""
        pipeline = self._pipeline
        assert pipeline is not None  # made by configure
        transport = self.parameters.startup().image_transport
        # First what may fail. No message is received before this callback has returned.
        self._active_subscriptions = Subscriptions(self, transport, pipeline)
        self._statistics.reset()
        pipeline.worker.start()
        self._segment_service.serve(pipeline.worker, pipeline.segmenter, lambda: pipeline.newest)
        self._teach_service.answer_with(pipeline.worker, functools.partial(teach, pipeline))
        self._target_services.serve(pipeline)
        image_topic = self._active_subscriptions.image_topic
        self.get_logger().info(f"active: segmenting images of {image_topic}")
        return super().on_activate(state)

    @guarded_transition
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe, finish the image that is being segmented, delete the markers."""
        self._stop()
        self.get_logger().info("inactive: unsubscribed, the model stays loaded")
        return super().on_deactivate(state)

    @guarded_transition
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model and the publishers."""
        self.release()
        self.get_logger().info("unconfigured: the model is freed")
        return super().on_cleanup(state)

    @guarded_transition
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything, whatever the state."""
        self.release()
        self.get_logger().info("finalized")
        return super().on_shutdown(state)

    @guarded_transition
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything, so that the node can be configured again."""
        self.release()
        return super().on_error(state)

    def release(self) -> None:
        """Stop, and free what configure and activate made; harmless when repeated."""
        try:
            self._stop()
        finally:
            # Forgotten first: what cannot be freed must not be freed again and again.
            pipeline, self._pipeline = self._pipeline, None
            if pipeline is not None:
                pipeline.close()
                return_freed_memory()

    def destroy_node(self) -> None:
        """Free everything; the library's log goes to Python's logging again."""
        with contextlib.ExitStack() as steps:  # from the last to the first, whatever one raises
            steps.callback(super().destroy_node)
            if hasattr(self, "_log_bridge"):  # since Kilted, rclpy destroys half-made nodes as well
                steps.callback(self._log_bridge.close)
                steps.callback(self.release)

    def _stop(self) -> None:
        pipeline, subscriptions = self._pipeline, self._active_subscriptions
        self._active_subscriptions = None
        with contextlib.ExitStack() as steps:  # from the last to the first, whatever one raises
            for service in (self._segment_service, self._teach_service, self._target_services):
                steps.callback(service.stop)
            if pipeline is not None:
                if subscriptions is not None and self.context.ok():
                    steps.callback(pipeline.publishers.clear)
                steps.callback(pipeline.stop)
            if subscriptions is not None:
                steps.callback(subscriptions.destroy)

    def _warn(self, message: str) -> None:
        # Logging fails once ROS is being shut down.
        if self.context.ok() and self._throttle.passes(message):
            self.get_logger().warning(message)

    def on_callback_failed(self, trace: str) -> None:
        """Log the traceback of a callback that raised."""
        message = f"a callback failed:\n{trace}"
        if self._throttle.passes(message):
            self.get_logger().error(message)

    def _report(self) -> None:
        """Do what is due once a second."""
        if self._active_subscriptions is not None:
            self._active_subscriptions.adapt()
        self._segment_service.expire()
        self._teach_service.expire()
        remove_dead_references(self)
        if self._pipeline is not None:
            self._pipeline.pairing.expire()
        self._publish_diagnostics(self._status())

    def _report_loading(self, what: str, share: float | None, seconds: float) -> None:
        """Report the progress of configure; called once a second."""
        done = "" if share is None else f", {share:.0%}"
        message = f"{what}: {seconds:.0f} s{done}"
        self.get_logger().info(message, throttle_duration_sec=LOADING_LOG_PERIOD_S)
        self._publish_diagnostics(NodeStatus(loading=message))

    def _publish_diagnostics(self, status: NodeStatus) -> None:
        stamp = self.get_clock().now().to_msg()
        name = self.get_fully_qualified_name().lstrip("/")
        active = self._active_subscriptions
        report = self._statistics.report(None if active is None else active.lost)
        self._diagnostics.publish(diagnostic_array(name, stamp, report, status))

    def _status(self) -> NodeStatus:
        if self._pipeline is None:
            return NodeStatus(problem=self.problem)
        segmenter = self._pipeline.segmenter
        configuration = self.parameters.configuration()
        return NodeStatus(
            active=self._active_subscriptions is not None,
            model=segmenter.bundle.name,
            engine=segmenter.engine.name,
            precision=segmenter.engine.precision,
            prompt_source=described(segmenter.source, segmenter.bundle.prompter),
            problem=self.problem,
            busy_s=self._pipeline.worker.busy_s,
            silent=self._active_subscriptions is not None and self._active_subscriptions.silent,
            memory_mb=resident_mb(),
            gpu_memory_mb=self._pipeline.gpu_memory.used_mb(),
            max_latency_ms=configuration.max_latency_ms,
            min_rate_hz=configuration.min_rate_hz,
        )


def _turn(turns: FairTurns | None) -> contextlib.AbstractContextManager[None]:
    """Return the turn of the executor's thread at an engine; nothing where it is not shared."""
    return contextlib.nullcontext() if turns is None else turns.in_time()
